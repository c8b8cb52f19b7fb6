"""Listing of an image folder in the layout of torchvision's ``ImageFolder``, without reading the images."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moonshine.datasets.source import some
from moonshine.errors import MoonshineError

logger = logging.getLogger(__name__)

REQUIRED = ("train", "test")
OPTIONAL = ("val",)
"""Folders that hold one folder of pictures per class."""

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""The names that torchvision's ``ImageFolder`` takes for pictures."""


@dataclass(frozen=True)
class Listing:
    """Class names and, by folder (train, ...), the files (POSIX paths below ``root``) with their labels."""

    root: Path
    classes: tuple[str, ...]
    files: dict[str, list[str]]
    labels: dict[str, list[int]]

    def by_split(self, splits: Mapping[str, str]) -> dict[str, tuple[list[bytes], list[int]]]:
        """Split -> files, as bytes, and labels; ``splits`` maps folders to splits."""
        return {
            splits[folder]: ([os.fsencode(name) for name in names], self.labels[folder])
            for folder, names in self.files.items()
        }


def survey(
    root: Path | str, required: Sequence[str] = REQUIRED, optional: Sequence[str] = OPTIONAL
) -> Listing:
    """List the images of a folder without reading them, in the order of torchvision's ``ImageFolder``.

    ``required`` and ``optional`` are the folders below ``root`` that are read; classes are the folders of the first,
    sorted; names that differ in their Unicode form alone are the same. Hidden files and folders are passed over, and
    files that are no images, which the log says.
    Raises MoonshineError naming what is missing, empty, unknown, twice there or out of place.
    """
    try:
        return _survey(Path(root).expanduser(), required, optional)
    except OSError as error:
        raise MoonshineError(f"{error.filename} cannot be read ({error.strerror})") from None


def _survey(root: Path, required: Sequence[str], optional: Sequence[str]) -> Listing:
    wanted = " and ".join(f"{split}/" for split in required)
    if not root.is_dir():
        raise MoonshineError(f"{root} is no folder; allowed: a folder that holds {wanted}")
    splits = (required[0], *optional, *required[1:])
    present = [split for split in splits if (root / split).is_dir()]
    others = [entry.name for entry in _visible(root) if entry.is_dir() and entry.name not in splits]
    absent = [f"{split}/" for split in required if split not in present]
    if absent:
        perhaps = "".join(f", perhaps {split}/" for split in optional)
        raise MoonshineError(
            f"{root} holds no {' and no '.join(absent)} (found: {some(present + others) or 'no folders'}); "
            f"allowed: {wanted}{perhaps}, each with one folder per class"
        )
    if others:
        only = " and ".join((", ".join(splits[:-1]), splits[-1]))
        logger.warning("%s: only %s are read; passed over: %s", root, only, some(others))
    classes = _classes(root / required[0])
    if len(classes) == 1:
        raise MoonshineError(f"{root / required[0]} has the single class {classes[0]}; allowed: at least two")
    files: dict[str, list[str]] = {}
    labels: dict[str, list[int]] = {}
    unread: Counter[str] = Counter()
    for split in present:
        by_class = _split(root, split, classes, unread)
        files[split] = [name for names in by_class.values() for name in names]
        labels[split] = [label for label, name in enumerate(classes) for _ in by_class.get(name, ())]
    say_unread(root, unread)
    return Listing(root, tuple(classes), files, labels)


def say_unread(root: Path, unread: Counter[str]) -> None:
    """Log how many files below a folder were passed over, by suffix."""
    if unread:
        kinds = some([f"{count} {suffix}" for suffix, count in sorted(unread.items())])
        logger.warning(
            "%s: files that are no pictures were passed over: %s; read: %s", root, kinds, ", ".join(SUFFIXES)
        )


def composed(name: str) -> str:
    """A name in one of the forms in which Unicode writes the same characters: file systems and archives change it."""
    return unicodedata.normalize("NFC", name)


def _split(root: Path, split: str, classes: list[str], unread: Counter[str]) -> dict[str, list[str]]:
    """Class -> its images in one split; classes of train/ that the split has no folder for are left out, and said."""
    names = {composed(name): name for name in classes}
    folders = {names.get(composed(name), name): name for name in _classes(root / split)}
    here = list(folders)
    unknown = [name for name in here if name not in classes]
    if unknown:
        raise MoonshineError(
            f"{root / split} has class folders that train/ has not: {some(unknown)}; allowed: {some(classes)}"
        )
    unseen = [name for name in classes if name not in here]
    if unseen:
        logger.warning("%s: no images of %s: results say nothing about them", root / split, some(unseen))
    found = {name: _images(root, root / split / folder, unread) for name, folder in folders.items()}
    empty = [f"{split}/{name}" for name, images in found.items() if not images]
    if empty:
        raise MoonshineError(
            f"{root} has empty class folders: {some(empty)}; "
            f"allowed: at least one image in each ({', '.join(SUFFIXES)})"
        )
    return found


def _classes(folder: Path) -> list[str]:
    entries = _visible(folder)
    classes = [entry.name for entry in entries if entry.is_dir()]
    astray = [entry.name for entry in entries if not entry.is_dir() and _is_image(entry.name)]
    if astray:
        raise MoonshineError(
            f"{folder} has images beside its class folders: {some(astray)}; allowed: images inside of them"
        )
    if not classes:
        raise MoonshineError(f"{folder} has no class folders; allowed: one folder of images per class")
    unwritable = [name for name in classes if not _is_utf8(name)]
    if unwritable:
        raise MoonshineError(f"{folder} has folders whose names are not UTF-8: {some(unwritable)!r}")
    alike = Counter(map(composed, classes))
    if twice := [ascii(name) for name in classes if alike[composed(name)] > 1]:
        raise MoonshineError(
            f"{folder} has class folders of one name in several Unicode forms: {some(twice)}; allowed: one of each"
        )
    return classes


def _visible(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, sorted by name."""
    return sorted(
        (entry for entry in folder.iterdir() if not _hidden(entry.name)), key=lambda entry: entry.name
    )


def _images(root: Path, folder: Path, unread: Counter[str]) -> list[str]:
    """Images below a class folder, others counted in ``unread``; a folder that links lead to twice is read once."""
    seen = {os.path.realpath(above) for above in (root, folder.parent)}
    found: list[str] = []

    def refuse(error: OSError) -> None:
        raise error

    for where, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _hidden(name))
        below = Path(where).relative_to(root)
        shown = [name for name in names if not _hidden(name)]
        found += [(below / name).as_posix() for name in shown if _is_image(name)]
        unread.update(kind_of(name) for name in shown if not _is_image(name))
    return sorted(found, key=os.path.split)


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def kind_of(name: str) -> str:
    """The suffix of a file's name, or all of a name that has none."""
    return Path(name).suffix.lower() or name


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
