"""The ``cityscapes`` kind: the fine annotations of Cityscapes, downloaded and extracted by the user.

Source of ids and classes: the benchmark's cityscapesscripts, helpers/labels.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from moonshine.datasets.kind import DataSection, Pair, PublicSize, Scenes
from moonshine.datasets.listing import checksum_of_contents
from moonshine.errors import MoonshineError, first_ten
from moonshine.fields import FilePath, Sides

CLASSES = {
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
"""Label id in the files -> class, in the order of the benchmark's train ids 0 to 18."""

VOID = frozenset(range(34)) - CLASSES.keys()
IMAGE, LABELS = "_leftImg8bit.png", "_gtFine_labelIds.png"
SOURCES = (
    ("leftImg8bit", IMAGE, "leftImg8bit_trainvaltest.zip"),
    ("gtFine", LABELS, "gtFine_trainvaltest.zip"),
)
"""Folder, how its files end, and the archive that holds it."""
COUNTS = {"train": 2975, "val": 500}
"""Images of the benchmark's splits; its own test set has no public labels."""


class Cityscapes(DataSection):
    """Cityscapes with fine annotations, extracted into ``root``; resized to ``size`` [height, width].

    The benchmark's val split is the test set. A network has 20 outputs, as the authors of ERFNet count them: the 19
    classes and void, which is never a target and is not scored.
    """

    is_dense: ClassVar[bool] = True

    name: Literal["cityscapes"]
    root: FilePath
    size: Sides

    def source(self) -> Scenes:
        """List images and label maps; the checksum is that of their names and contents."""
        root = Path(self.root).expanduser()
        found = _pairs(root)
        splits = {"train": found["train"], "test": found["val"]}
        names = (name for pairs in splits.values() for pair in pairs for name in pair)
        return Scenes(
            root=root,
            splits=splits,
            ids={label: index for index, label in enumerate(CLASSES)},
            void=VOID,
            scored=len(CLASSES),
            description="Cityscapes, fine annotations",
            sha256=checksum_of_contents(root, names),
            class_names=(*CLASSES.values(), "void"),
            size=self.size,
        )

    def public_size(self) -> PublicSize:
        """Return the numbers of the benchmark; void has an output of its own."""
        height, width = self.size
        return PublicSize(COUNTS["train"], COUNTS["val"], (3, height, width), len(CLASSES) + 1)


def _pairs(root: Path) -> dict[str, list[Pair]]:
    """Split of the benchmark -> (image, label map), by name; MoonshineError naming all that is missing at once."""
    pairs: dict[str, list[Pair]] = {}
    no_labels: list[str] = []
    no_image: list[str] = []
    miscounted: list[str] = []
    for split, count in COUNTS.items():
        images, labels = (_files(root, split, *source) for source in SOURCES)
        pairs[split] = [
            (f"leftImg8bit/{split}/{stem}{IMAGE}", f"gtFine/{split}/{stem}{LABELS}") for stem in images
        ]
        no_labels += [f"gtFine/{split}/{stem}{LABELS}" for stem in images if stem not in labels]
        no_image += [f"leftImg8bit/{split}/{stem}{IMAGE}" for stem in labels if stem not in images]
        if len(images) != count:
            miscounted.append(
                f"leftImg8bit/{split} holds {len(images)} images (*{IMAGE}); allowed: {count} (extract "
                "leftImg8bit_trainvaltest.zip again)"
            )
    problems = [
        f"it has no {first_ten(missing)}; allowed: {what} (extract {archive} again)"
        for missing, what, (_, _, archive) in (
            (no_labels, "a label map for every image", SOURCES[1]),
            (no_image, "an image for every label map", SOURCES[0]),
        )
        if missing
    ] + miscounted
    if problems:
        raise MoonshineError(f"data.root: {root}: " + "; ".join(problems))
    return pairs


def _files(root: Path, split: str, name: str, suffix: str, archive: str) -> dict[str, None]:
    """``<city>/<stem>`` of the files of a split below one of the two folders, in order."""
    folder = root / name / split
    if not folder.is_dir():
        raise MoonshineError(
            f"data.root: {folder} is no folder; allowed: {archive} from cityscapes-dataset.com "
            f"(a free registration) extracted into {root}, so that {name}/{split}/<city>/ is there"
        )
    found = sorted(folder.glob(f"*/*{suffix}"))
    return dict.fromkeys(path.relative_to(folder).as_posix().removesuffix(suffix) for path in found)
