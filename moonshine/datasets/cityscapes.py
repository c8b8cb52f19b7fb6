"""The ``cityscapes`` kind: the fine annotations of Cityscapes, as the user has downloaded and extracted them.

Source of ids and classes: the benchmark's cityscapesscripts, helpers/labels.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonshine.datasets.checksums import of_files
from moonshine.datasets.label_maps import Pair, Scenes, prepare_scenes
from moonshine.datasets.source import some
from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from moonshine.config import Cityscapes

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
COUNTS = {"train": 2975, "val": 500}
"""Pictures of the benchmark's splits; its own test set has no public labels."""

PICTURE, LABELS = "_leftImg8bit.png", "_gtFine_labelIds.png"


def prepare(config: Cityscapes, folder: Path) -> dict[str, Any]:
    """As `moonshine.datasets.label_maps.prepare_scenes`; the benchmark's val split is the test set.

    A network has 20 outputs, as the authors of ERFNet count them: the 19 classes and void, which is never a target and
    is not scored. MoonshineError also for a folder that is missing, laid out otherwise or not extracted whole.
    """
    root = Path(config.root).expanduser()
    pairs = {"train": _pairs(root, "train"), "test": _pairs(root, "val")}
    scenes = Scenes(
        root=root,
        pairs=pairs,
        class_names=(*CLASSES.values(), "void"),
        scored=len(CLASSES),
        ids={label: index for index, label in enumerate(CLASSES)},
        void=VOID,
        description="Cityscapes, fine annotations",
        sha256=of_files(root, (name for split in pairs.values() for pair in split for name in pair)),
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


def _pairs(root: Path, split: str) -> list[Pair]:
    for name, archive in (
        ("leftImg8bit", "leftImg8bit_trainvaltest.zip"),
        ("gtFine", "gtFine_trainvaltest.zip"),
    ):
        if not (root / name / split).is_dir():
            raise MoonshineError(
                f"data.root: {root / name / split} is no folder; allowed: {archive} from cityscapes-dataset.com "
                f"(a free registration) extracted into {root}, so that {name}/{split}/<city>/ is there"
            )
    found = sorted((root / "leftImg8bit" / split).glob(f"*/*{PICTURE}"))
    pairs = []
    for path in found:
        label = root / "gtFine" / split / path.parent.name / path.name.replace(PICTURE, LABELS)
        pairs.append((path.relative_to(root).as_posix(), label.relative_to(root).as_posix()))
    if missing := [label for _, label in pairs if not (root / label).is_file()]:
        raise MoonshineError(
            f"data.root: {root} has no {some(missing)}; allowed: a label map for every picture (extract "
            "gtFine_trainvaltest.zip again)"
        )
    if len(pairs) != COUNTS[split]:
        raise MoonshineError(
            f"data.root: {root / 'leftImg8bit' / split} holds {len(pairs)} pictures (*{PICTURE}); allowed: "
            f"{COUNTS[split]} (extract leftImg8bit_trainvaltest.zip again)"
        )
    return pairs
