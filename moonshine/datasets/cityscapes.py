"""The ``cityscapes`` kind: the fine annotations of Cityscapes, downloaded and extracted by the user.

Source of ids and classes: the benchmark's cityscapesscripts, helpers/labels.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from moonshine.datasets.kind import DataSection, DatasetSize, SceneFiles, Scenes
from moonshine.datasets.listing import checksum_of_contents, pair_files
from moonshine.errors import MoonshineError
from moonshine.fields import FilePath, Sides

_CLASSES = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
"""Label id in the files -> class, in the order of the benchmark's train ids, 0 to 18."""

_VOID = frozenset(range(34)) - _CLASSES.keys()
SOURCES = (
    ("leftImg8bit", "_leftImg8bit.png", "leftImg8bit_trainvaltest.zip"),
    ("gtFine", "_gtFine_labelIds.png", "gtFine_trainvaltest.zip"),
)
"""Folder, suffix of its files, and the archive that contains it."""
_COUNTS = {"train": 2975, "val": 500}
"""Images of the benchmark's splits; its own test set has no public labels."""


class Cityscapes(DataSection):
    """Cityscapes with fine annotations, extracted into ``root``; resized to ``size`` [height, width].

    The benchmark's val split is the test set; the checksum is that of names and contents. A network has 20 outputs, as
    the authors of ERFNet count them: the 19 classes and void, which is never a target and is not scored.
    """

    is_dense: ClassVar[bool] = True

    name: Literal["cityscapes"]
    root: FilePath
    size: Sides

    def source(self) -> Scenes:
        root = Path(self.root).expanduser()
        found = _pairs(root)
        splits = {"train": found["train"], "test": found["val"]}
        names = (name for pairs in splits.values() for pair in pairs for name in pair)
        return Scenes(
            root=root,
            splits=splits,
            ids={label: index for index, label in enumerate(_CLASSES)},
            void=_VOID,
            scored=len(_CLASSES),
            description="Cityscapes, fine annotations",
            sha256=checksum_of_contents(root, names),
            class_names=(*_CLASSES.values(), "void"),
            size=self.size,
        )

    def public_size(self) -> DatasetSize:
        height, width = self.size
        return DatasetSize(_COUNTS["train"], _COUNTS["val"], (3, height, width), len(_CLASSES) + 1)


def _pairs(root: Path) -> dict[str, list[SceneFiles]]:
    """Return split of the benchmark -> images with label maps, sorted by name; MoonshineError if any is missing."""
    whole = f"both archives extracted whole ({', '.join(archive for *_, archive in SOURCES)})"
    files = {split: (_files(root, split, *SOURCES[0]), _files(root, split, *SOURCES[1])) for split in _COUNTS}
    pairs = pair_files(root, files, whole)
    for split, count in _COUNTS.items():
        if len(pairs[split]) != count:
            raise MoonshineError(
                f"data.root: {root}: leftImg8bit/{split} holds {len(pairs[split])} images; allowed: {count}, "
                f"with {whole}"
            )
    return pairs


def _files(root: Path, split: str, name: str, suffix: str, archive: str) -> dict[str, str]:
    """Return ``<city>/<stem>`` -> file below ``root`` for a split in one of the two folders, in order."""
    folder = root / name / split
    if not folder.is_dir():
        raise MoonshineError(
            f"data.root: {folder} is no folder; allowed: {archive} from cityscapes-dataset.com "
            f"(a free registration) extracted into {root}, so that {name}/{split}/<city>/ is there"
        )
    return {
        path.relative_to(folder).as_posix().removesuffix(suffix): path.relative_to(root).as_posix()
        for path in sorted(folder.glob(f"*/*{suffix}"))
    }
