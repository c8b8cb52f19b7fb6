"""Atomic replacement of whole folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from moonshine.errors import MoonshineError
from moonshine.files import draft
from moonshine.formats.formats import FORMATS

_EXPORTED_FILES = {
    *(format.file for format in FORMATS.values()),
    "structure.json",
    "classify.py",
    "segment.py",
    "rgb.py",
    "classify_micro",
    "receipts.json",
    "shipped.json",
    "timings.json",
    "README.md",
}
"""Files that an export may hold besides hidden ones: a folder with any other file is the user's and is kept."""


@contextmanager
def replace_folder(folder: Path | str) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces ``folder`` when the context ends, or is removed if it raises.

    An older export is removed once the new one is complete. Raises MoonshineError, before any work, if ``folder`` holds
    anything but an export or cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    _check(folder)
    with ExitStack() as held:
        try:
            beside = held.enter_context(draft(folder))
            new = beside / folder.name
            new.mkdir()
        except OSError as error:
            raise MoonshineError(f"{folder}: cannot be written ({error.strerror or error})") from None
        yield new
        _check(folder)
        _swap(new, folder, beside / "old")


def _swap(new: Path, folder: Path, old: Path) -> None:
    existed = folder.exists()
    if existed:
        os.replace(folder, old)
    try:
        os.replace(new, folder)
    except OSError:
        if existed:
            os.replace(old, folder)
        raise


def _check(folder: Path) -> None:
    if not folder.exists():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise MoonshineError(f"{folder}: is not a folder; allowed: a new folder, or an older export")
    if foreign := sorted({path.name for path in folder.iterdir() if path.name[0] != "."} - _EXPORTED_FILES):
        raise MoonshineError(
            f"{folder}: holds {', '.join(foreign[:3])}, which no export wrote; allowed: a new folder, or an export"
        )
