"""The ``segmentation_folder`` kind: the user's images, each with a label map of the same file name."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonshine.datasets.checksums import of_files
from moonshine.datasets.folder_listing import SUFFIXES, composed, kind_of, say_unread
from moonshine.datasets.label_maps import Pair, Scenes, prepare_scenes
from moonshine.datasets.source import some
from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from moonshine.config.data import SegmentationFolder

logger = logging.getLogger(__name__)

FOLDERS = ("images", "labels")


def prepare(config: SegmentationFolder, folder: Path) -> dict[str, Any]:
    """As `moonshine.datasets.label_maps.prepare_scenes`, for ``images/<split>/`` and ``labels/<split>/``.

    Splits are train, test and perhaps val; where there is no test, val is the test set. MoonshineError also for a
    folder that is laid out otherwise or is another one than the study's checksum says.
    """
    root = Path(config.root).expanduser()
    pairs = survey(root)
    found = checksum(root)
    if found != config.sha256:
        raise MoonshineError(
            f"data.sha256: the pictures and label maps of {root} have the checksum {found}, the study says "
            f"{config.sha256}; they have changed or are others (where they are the right ones, write their checksum "
            "into the study)"
        )
    scenes = Scenes(
        root=root,
        pairs=pairs,
        class_names=tuple(config.classes),
        scored=len(config.classes),
        ids={label: label for label in range(len(config.classes))},
        void=frozenset({config.void}),
        description=f"segmentation folder {root.name}",
        sha256=found,
    )
    return prepare_scenes(
        scenes,
        folder,
        name=config.name,
        size=config.size,
        validation=config.validation,
        split_seed=config.split_seed,
        normalisation=config.normalisation,
    )


def checksum(root: Path | str) -> str:
    """SHA-256 of all pictures and label maps of a folder, by name and content, as ``sha256sum`` would list them.

    MoonshineError for a folder that is laid out otherwise.
    """
    pairs = survey(Path(root))
    return of_files(Path(root), (name for split in pairs.values() for pair in split for name in pair))


def survey(root: Path) -> dict[str, list[Pair]]:
    """Split -> (picture, label map) below a folder, by name, found without reading them.

    Hidden files are passed over, and files that are no pictures, which the log says. MoonshineError naming what is
    missing, and of all splits at once what has no partner.
    """
    for name in FOLDERS:
        if not (root / name / "train").is_dir():
            raise MoonshineError(
                f"data.root: {root} holds no {name}/train/; allowed: images/<split>/ and labels/<split>/ with the same "
                "file names, for the splits train, test and perhaps val"
            )
    present = [split for split in ("val", "test") if (root / "images" / split).is_dir()]
    if not present:
        raise MoonshineError(
            f"data.root: {root}/images holds neither test/ nor val/; allowed: either, to test on, beside train/"
        )
    if present == ["val"]:
        logger.info("%s: there is no test/, so val/ is the test set", root)
    folders = {"train": "train", "test": present[-1]}
    if len(present) == 2:
        folders["validation"] = "val"
    files = {
        name: (_files(root / "images" / name), _files(root / "labels" / name)) for name in folders.values()
    }
    if lonely := [said for name, (pictures, maps) in files.items() for said in _lonely(name, pictures, maps)]:
        raise MoonshineError(
            f"data.root: {root}: {'; '.join(lonely)}; allowed: for each picture one PNG of the same name, and no others"
        )
    return {split: _pairs(root, name, *files[name]) for split, name in folders.items()}


def _lonely(split: str, pictures: dict[str, str], maps: dict[str, str]) -> Iterator[str]:
    """What is missing of a split, in words."""
    if names := sorted(pictures.keys() - maps.keys()):
        yield f"labels/{split} has no label map for {some([pictures[name] for name in names])}"
    if names := sorted(maps.keys() - pictures.keys()):
        yield f"images/{split} has no picture for {some([maps[name] for name in names])}"


def _pairs(root: Path, split: str, pictures: dict[str, str], maps: dict[str, str]) -> list[Pair]:
    if not pictures:
        raise MoonshineError(f"data.root: {root}/images/{split} holds no pictures ({', '.join(SUFFIXES)})")
    return [(f"images/{split}/{pictures[name]}", f"labels/{split}/{maps[name]}") for name in sorted(pictures)]


def _files(folder: Path) -> dict[str, str]:
    """Name without its suffix, in one Unicode form -> file name, of the pictures in a folder."""
    try:
        shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise MoonshineError(f"data.root: {folder} cannot be read ({error.strerror})") from None
    names = [path.name for path in shown if path.suffix.lower() in SUFFIXES]
    found = {composed(Path(name).stem): name for name in names}
    if len(found) < len(names):
        raise MoonshineError(
            f"data.root: {folder} has two pictures of one name and different suffixes, or Unicode forms of the name"
        )
    others = [path for path in shown if path.suffix.lower() not in SUFFIXES and not path.is_dir()]
    say_unread(folder, Counter(kind_of(path.name) for path in others))
    return found
