"""Image files below a folder: listed as torchvision's ``ImageFolder`` does, and checksums over them."""

from __future__ import annotations

import hashlib
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from moonshine.datasets.kind import SceneFiles, UnreadableImages
from moonshine.errors import MoonshineError, first_few
from moonshine.files import sha256

logger = logging.getLogger(__name__)

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Suffixes of image files, those of torchvision's ``ImageFolder``."""
SPLIT_FOLDERS = {"train": "train", "val": "validation", "test": "test"}
"""Folder -> split."""
THREADS = min(8, len(os.sched_getaffinity(0)))
"""Files read or decoded at once; each decoder holds one image at full size."""
BLOCK = 10_000


@dataclass(frozen=True)
class Listing:
    """Class names, and split -> files (POSIX paths below ``root``) with their labels."""

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[list[str], list[int]]]

    @property
    def names(self) -> list[str]:
        """The files of all splits."""
        return [name for names, _ in self.splits.values() for name in names]


def list_images(
    root: Path | str, folders: Mapping[str, str] = SPLIT_FOLDERS, optional: Sequence[str] = ("val",)
) -> Listing:
    """List the images of a folder without reading them, in the order of torchvision's ``ImageFolder``.

    ``folders`` maps folders below ``root`` to splits; classes are the folders in the first, sorted; names that differ
    only in their Unicode form are equal. Hidden files and folders are ignored, as are files that are not images, with a
    log message. torchvision's own functions would import torch, follow cyclic links, take hidden folders for classes,
    and ignore unreadable folders.
    MoonshineError naming what is missing, empty, unknown, duplicate or misplaced.
    """
    try:
        return _list_images(Path(root).expanduser(), folders, optional)
    except OSError as error:
        raise MoonshineError(f"{error.filename} cannot be read ({error.strerror})") from None


def _list_images(root: Path, folders: Mapping[str, str], optional: Sequence[str]) -> Listing:
    if not root.is_dir():
        raise MoonshineError(f"{root} is no folder; allowed: a folder that holds {' and '.join(folders)}")
    there = [entry.name for entry in _visible(root) if entry.is_dir()]
    if absent := [f"{folder}/" for folder in folders if folder not in (*there, *optional)]:
        allowed = ", ".join(f"perhaps {each}/" if each in optional else f"{each}/" for each in folders)
        raise MoonshineError(
            f"{root} holds no {' and no '.join(absent)} (found: {first_few(there) or 'no folders'}); "
            f"allowed: {allowed}, each with one folder per class"
        )
    if others := [name for name in there if name not in folders]:
        logger.warning("%s: only %s are read; passed over: %s", root, ", ".join(folders), first_few(others))
    train, *_ = folders
    classes = _classes(root / train)
    if len(classes) == 1:
        raise MoonshineError(f"{root / train} has the single class {classes[0]}; allowed: at least two")
    ignored: Counter[str] = Counter()
    splits: dict[str, tuple[list[str], list[int]]] = {}
    for folder in (each for each in folders if each in there):
        found = _images_by_class(root, folder, classes, ignored)
        names = [name for each in classes for name in found.get(each, ())]
        labels = [label for label, each in enumerate(classes) for _ in found.get(each, ())]
        splits[folders[folder]] = names, labels
    log_ignored(root, ignored)
    return Listing(root, tuple(classes), splits)


def _images_by_class(
    root: Path, folder: str, classes: Sequence[str], ignored: Counter[str]
) -> dict[str, list[str]]:
    """Return class -> its images in one folder; classes without a folder are left out, with a log message."""
    names = {composed(name): name for name in classes}
    own = {names.get(composed(name), name): name for name in _classes(root / folder)}
    if unknown := [name for name in own if name not in classes]:
        raise MoonshineError(
            f"{root / folder} has class folders that train/ has not: {first_few(unknown)}; "
            f"allowed: {first_few(classes)}"
        )
    if unseen := [name for name in classes if name not in own]:
        logger.warning("%s: no images of %s; results do not cover them", root / folder, first_few(unseen))
    found = {name: _images(root, root / folder / each, ignored) for name, each in own.items()}
    if empty := [f"{folder}/{name}" for name, images in found.items() if not images]:
        raise MoonshineError(
            f"{root} has empty class folders: {first_few(empty)}; "
            f"allowed: at least one image in each ({', '.join(SUFFIXES)})"
        )
    return found


def _classes(folder: Path) -> list[str]:
    entries = _visible(folder)
    classes = [entry.name for entry in entries if entry.is_dir()]
    if astray := [entry.name for entry in entries if not entry.is_dir() and entry.suffix.lower() in SUFFIXES]:
        raise MoonshineError(
            f"{folder} has images beside its class folders: {first_few(astray)}; allowed: images inside of them"
        )
    if not classes:
        raise MoonshineError(f"{folder} has no class folders; allowed: one folder of images per class")
    if unwritable := [name for name in classes if os.fsencode(name) != name.encode(errors="replace")]:
        raise MoonshineError(f"{folder} has folders whose names are not UTF-8: {first_few(unwritable)!r}")
    alike = Counter(map(composed, classes))
    if twice := [ascii(name) for name in classes if alike[composed(name)] > 1]:
        raise MoonshineError(
            f"{folder} has class folders of one name in several Unicode forms: {first_few(twice)}; "
            "allowed: one of each"
        )
    return classes


def _images(root: Path, folder: Path, ignored: Counter[str]) -> list[str]:
    """Return the images below a class folder; others are counted in ``ignored``. Folders linked twice are read once."""
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
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images = images_among(names, ignored)
        found += [(Path(where).relative_to(root) / name).as_posix() for name in images]
    return sorted(found, key=os.path.split)


def images_among(names: Iterable[str], ignored: Counter[str]) -> list[str]:
    """Return the names of images; hidden files are left out, others are counted in ``ignored`` by suffix."""
    shown = {name: Path(name).suffix.lower() for name in names if not name.startswith(".")}
    ignored.update(suffix or name for name, suffix in shown.items() if suffix not in SUFFIXES)
    return [name for name, suffix in shown.items() if suffix in SUFFIXES]


def log_ignored(root: Path, ignored: Counter[str]) -> None:
    """Log how many files below a folder were ignored, by suffix."""
    if ignored:
        kinds = first_few([f"{count} {suffix}" for suffix, count in sorted(ignored.items())])
        logger.warning(
            "%s: files that are no images were passed over: %s; read: %s", root, kinds, ", ".join(SUFFIXES)
        )


def composed(name: str) -> str:
    """Return a name in one canonical Unicode form: file systems and archives change the form."""
    return unicodedata.normalize("NFC", name)


def _visible(folder: Path) -> list[Path]:
    """Return the entries of a folder that are not hidden, sorted by name."""
    shown = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(shown, key=lambda entry: entry.name)


def pair_files(
    root: Path, splits: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]], allowed: str
) -> dict[str, list[SceneFiles]]:
    """Return split -> images with label maps, matched by the common part of their names.

    MoonshineError naming all files without a partner at once.
    """
    alone = {
        "no label map for": [
            images[each] for images, maps in splits.values() for each in images if each not in maps
        ],
        "no image for": [
            maps[each] for images, maps in splits.values() for each in maps if each not in images
        ],
    }
    if said := "; ".join(f"{what} {first_few(names)}" for what, names in alone.items() if names):
        raise MoonshineError(f"data.root: {root}: {said}; allowed: {allowed}")
    return {
        split: [(name, maps[each]) for each, name in images.items()]
        for split, (images, maps) in splits.items()
    }


def checksum_of_contents(root: Path, names: Iterable[str]) -> str:
    """Return the SHA-256 of ``sha256sum``'s output for these files below ``root``, sorted by path.

    UnreadableImages names all that cannot be read.
    """

    def content(path: Path) -> str:
        _size(path)
        return sha256(path)

    return _checksum(root, names, content)


def checksum_of_sizes(root: Path, names: Iterable[str]) -> str:
    """Return the SHA-256 of a line ``<bytes>  <name>`` for each of these files below ``root``, sorted by path.

    For too many files to read. UnreadableImages names all that are missing.
    """
    return _checksum(root, names, _size)


def _checksum(root: Path, names: Iterable[str], state: Callable[[Path], str | int]) -> str:
    """Return the SHA-256 of a line ``<state>  <name>`` for each file, sorted by the bytes of the path."""

    def state_or_error(name: str) -> str | int | OSError:
        try:
            return state(root / name)
        except OSError as error:
            return error

    ordered = sorted(names, key=os.fsencode)
    failures: dict[str, str] = {}
    digest = hashlib.sha256()
    with ThreadPoolExecutor(THREADS) as pool:
        # in blocks, because map() keeps a future for every name
        for start in range(0, len(ordered), BLOCK):
            block = ordered[start : start + BLOCK]
            for name, found in zip(block, pool.map(state_or_error, block), strict=True):
                if isinstance(found, OSError):
                    failures[name] = found.strerror or str(found)
                digest.update(f"{found}  ".encode() + os.fsencode(name) + b"\n")
    if failures:
        raise UnreadableImages(str(root), failures)
    return digest.hexdigest()


def _size(path: Path) -> int:
    found = path.stat()
    if not S_ISREG(found.st_mode):  # reading a pipe would block
        raise OSError("no regular file")
    return found.st_size
