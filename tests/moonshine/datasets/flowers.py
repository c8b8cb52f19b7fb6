"""Small folders of pictures to test with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from moonshine.datasets.image_folder import ImageFolder, checksum_image_folder

SIZES = ((20, 31), (40, 24), (17, 17))
"""Height and width of the pictures, in turn."""


def picture(seed: int, height: int = 20, width: int = 31) -> Image.Image:
    """Smooth enough for JPEG to change it little, and no two alike."""
    coarse = np.random.RandomState(seed).randint(256, size=(4, 5, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def plant(root: Path, counts: dict[str, int]) -> Path:
    """Pictures ``0.png``, ``1.jpg``, ... in every folder of ``counts``, such as ``{"train/rose": 3}``."""
    for number, (folder, count) in enumerate(counts.items()):
        (root / folder).mkdir(parents=True)
        for i in range(count):
            suffix = ("png", "jpg", "bmp", "webp")[i % 4]
            picture(100 * number + i, *SIZES[i % 3]).save(root / folder / f"{i}.{suffix}")
    return root


def config_of(root: Path, **changes: Any) -> ImageFolder:
    """The section of a study, with the right checksum where none is given."""
    options = {"root": str(root), "resize": 16, "crop": 12, "validation": 0.0, "split_seed": 0}
    sha256 = changes.pop("sha256", None) or checksum_image_folder(root)
    return ImageFolder(name="image_folder", sha256=sha256, **{**options, **changes})
