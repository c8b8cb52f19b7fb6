"""The ``segmentation_folder`` kind: the user's images, each with a label map of the same file name."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from moonshine.datasets.kind import MAP_CLASSES, DataSection, SceneFiles, Scenes, check_checksum
from moonshine.datasets.listing import (
    SUFFIXES,
    checksum_of_contents,
    composed,
    images_among,
    log_ignored,
    pair_files,
)
from moonshine.errors import MoonshineError
from moonshine.fields import FilePath, Sha256, Sides, Text

logger = logging.getLogger(__name__)


class SegmentationFolder(DataSection):
    """The user's own images with a label for every pixel: images/<split>/ and labels/<split>/, same file names.

    Splits are train, test and perhaps val; where there is no test, val is the test set. Label maps are 8-bit PNG: 0 is
    the first of ``classes``, ``void`` none of them. ``size`` is [height, width]; null keeps the images' own, which must
    then be one for all.
    """

    is_dense: ClassVar[bool] = True

    name: Literal["segmentation_folder"]
    root: FilePath
    sha256: Sha256
    classes: Annotated[list[Text], Field(min_length=2, max_length=MAP_CLASSES)]
    void: Annotated[int, Field(ge=0, le=255)]
    size: Sides | None

    @model_validator(mode="after")
    def _void_is_no_class(self) -> SegmentationFolder:
        if self.void < len(self.classes):
            raise ValueError(
                f"void: found {self.void}, which is the label of {self.classes[self.void]!r}; allowed: from "
                f"{len(self.classes)}"
            )
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes: {self.classes} has a class twice")
        return self

    def source(self) -> Scenes:
        root = Path(self.root).expanduser()
        splits = list_pairs(root)
        found = _checksum(root, splits)
        check_checksum(f"the images and label maps of {root} have", found, self.sha256)
        return Scenes(
            root=root,
            splits=splits,
            ids={label: label for label in range(len(self.classes))},
            void=frozenset({self.void}),
            scored=len(self.classes),
            description=f"segmentation folder {root.name}",
            sha256=found,
            class_names=self.classes,
            size=self.size,
        )


def checksum_segmentation_folder(root: Path | str) -> str:
    """Return the SHA-256 of images and label maps: of their names below ``root`` and contents, as ``sha256sum``'s.

    MoonshineError for a folder that is laid out otherwise.
    """
    return _checksum(Path(root), list_pairs(Path(root)))


def _checksum(root: Path, splits: Mapping[str, list[SceneFiles]]) -> str:
    return checksum_of_contents(root, (name for pairs in splits.values() for pair in pairs for name in pair))


def list_pairs(root: Path) -> dict[str, list[SceneFiles]]:
    """Return split -> (image, label map) below a folder, by name, found without reading them.

    Hidden files are ignored, as are files that are not images, with a log message. MoonshineError naming what is
    missing, and the files without a partner of all splits at once.
    """
    for name in ("images", "labels"):
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
        split: (_files(root, f"images/{name}"), _files(root, f"labels/{name}"))
        for split, name in folders.items()
    }
    return pair_files(root, files, "for each image one PNG of the same name, and no others")


def _files(root: Path, name: str) -> dict[str, str]:
    """Return stem, in one Unicode form -> file below ``root`` for the images in a folder, in order."""
    ignored: Counter[str] = Counter()
    try:
        names = images_among((path.name for path in (root / name).iterdir() if not path.is_dir()), ignored)
    except OSError as error:
        raise MoonshineError(f"data.root: {root / name} cannot be read ({error.strerror})") from None
    found = {composed(Path(each).stem): f"{name}/{each}" for each in names}
    if len(found) < len(names):
        raise MoonshineError(
            f"data.root: {root / name} has two images of one name and different suffixes, or Unicode forms of the name"
        )
    if not found:
        raise MoonshineError(f"data.root: {root / name} holds no images ({', '.join(SUFFIXES)})")
    log_ignored(root / name, ignored)
    return dict(sorted(found.items()))
