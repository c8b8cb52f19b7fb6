"""Small folders of pictures with label maps to test with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from moonshine.datasets.segmentation_folder import SegmentationFolder, checksum_segmentation_folder

CLASSES = ["ground", "box", "ball"]
VOID = 9


def scene(seed: int, height: int = 16, width: int = 24) -> tuple[Image.Image, Image.Image]:
    """A picture whose colour tells the class, and its label map, with a void frame at the top."""
    labels = np.random.RandomState(seed).randint(3, size=(height // 4, width // 4)).repeat(4, 0).repeat(4, 1)
    labels = labels.astype(np.uint8)
    pixels = np.stack([60 + 80 * labels, np.full_like(labels, seed), 200 - 60 * labels], -1)
    labels[0] = VOID
    return Image.fromarray(pixels.astype(np.uint8)), Image.fromarray(labels)


def plant(root: Path, counts: dict[str, int], **sizes: int) -> Path:
    """Scenes ``0.png``, ``1.png``, ... in images/<split> and labels/<split>."""
    for number, (split, count) in enumerate(counts.items()):
        for name in ("images", "labels"):
            (root / name / split).mkdir(parents=True)
        for i in range(count):
            for name, picture in zip(("images", "labels"), scene(100 * number + i, **sizes), strict=True):
                picture.save(root / name / split / f"{i}.png")
    return root


def config_of(root: Path, **changes: Any) -> SegmentationFolder:
    """The section of a study, with the right checksum where none is given."""
    options = {"root": str(root), "classes": CLASSES, "void": VOID, "size": None, "validation": 0.0}
    sha256 = changes.pop("sha256", None) or checksum_segmentation_folder(root)
    name = "segmentation_folder"
    return SegmentationFolder(**{"name": name, "sha256": sha256, "split_seed": 0, **options, **changes})
