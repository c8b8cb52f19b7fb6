"""One checksum over many files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_ISREG

from moonshine.datasets.pictures import THREADS
from moonshine.datasets.source import UnreadableImages
from moonshine.files import sha256


def of_files(root: Path, names: Iterable[str]) -> str:
    """SHA-256 of the text that ``sha256sum`` prints for these files below ``root``, sorted by the bytes of the path.

    UnreadableImages names all of those that cannot be read.
    """
    ordered = sorted(names, key=os.fsencode)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda name: _content(root / name), ordered))
    failures = {
        name: str(error) for name, error in zip(ordered, found, strict=True) if isinstance(error, OSError)
    }
    if failures:
        raise UnreadableImages(str(root), failures)
    lines = (
        f"{content}  ".encode() + os.fsencode(name) + b"\n"
        for content, name in zip(found, ordered, strict=True)
    )
    return hashlib.sha256(b"".join(lines)).hexdigest()


def of_sizes(root: Path, names: Iterable[str]) -> str:
    """SHA-256 of a line ``<bytes>  <name>`` for each of these files below ``root``, sorted by the bytes of the path.

    For files that are too many to read. UnreadableImages names all of those that are not there.
    """
    digest = hashlib.sha256()
    failures: dict[str, str] = {}
    for name in sorted(names, key=os.fsencode):
        try:
            found = (root / name).stat()
        except OSError as error:
            failures[name] = error.strerror or str(error)
            continue
        if not S_ISREG(found.st_mode):
            failures[name] = "no regular file"
        digest.update(f"{found.st_size}  ".encode() + os.fsencode(name) + b"\n")
    if failures:
        raise UnreadableImages(str(root), failures)
    return digest.hexdigest()


def _content(path: Path) -> str | OSError:
    """The checksum of a file, or why there is none."""
    try:
        if not S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            return OSError("no regular file")
        return sha256(path)
    except OSError as error:
        return OSError(error.strerror)
