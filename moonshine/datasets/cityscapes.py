"""The ``cityscapes`` kind: the fine annotations of Cityscapes, downloaded and extracted by the user.

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
    from moonshine.config.data import Cityscapes

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
PICTURE, LABELS = "_leftImg8bit.png", "_gtFine_labelIds.png"
SOURCES = (
    ("leftImg8bit", PICTURE, "leftImg8bit_trainvaltest.zip"),
    ("gtFine", LABELS, "gtFine_trainvaltest.zip"),
)
"""Folder, how its files end, and the archive that holds it."""
COUNTS = {"train": 2975, "val": 500}
"""Pictures of the benchmark's splits; its own test set has no public labels."""


def prepare(config: Cityscapes, folder: Path) -> dict[str, Any]:
    """As `moonshine.datasets.label_maps.prepare_scenes`; the benchmark's val split is the test set.

    A network has 20 outputs, as the authors of ERFNet count them: the 19 classes and void, which is never a target and
    is not scored. MoonshineError also for a folder that is missing, laid out otherwise or not extracted whole.
    """
    root = Path(config.root).expanduser()
    found = _pairs(root)
    pairs = {"train": found["train"], "test": found["val"]}
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


def _pairs(root: Path) -> dict[str, list[Pair]]:
    """Split of the benchmark -> (picture, label map), by name; MoonshineError naming all that is missing at once."""
    pairs: dict[str, list[Pair]] = {}
    no_labels: list[str] = []
    no_picture: list[str] = []
    miscounted: list[str] = []
    for split, count in COUNTS.items():
        pictures, labels = (_files(root, split, *source) for source in SOURCES)
        pairs[split] = [
            (f"leftImg8bit/{split}/{stem}{PICTURE}", f"gtFine/{split}/{stem}{LABELS}") for stem in pictures
        ]
        no_labels += [f"gtFine/{split}/{stem}{LABELS}" for stem in pictures if stem not in labels]
        no_picture += [f"leftImg8bit/{split}/{stem}{PICTURE}" for stem in labels if stem not in pictures]
        if len(pictures) != count:
            miscounted.append(
                f"leftImg8bit/{split} holds {len(pictures)} pictures (*{PICTURE}); allowed: {count} (extract "
                "leftImg8bit_trainvaltest.zip again)"
            )
    problems = [
        f"it has no {some(missing)}; allowed: {what} (extract {archive} again)"
        for missing, what, (_, _, archive) in (
            (no_labels, "a label map for every picture", SOURCES[1]),
            (no_picture, "a picture for every label map", SOURCES[0]),
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
