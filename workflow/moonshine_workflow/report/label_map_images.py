"""Label maps as images: one colour per class, in small, reproducible PNG files."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from moonshine.data.store import VOID

_MAX_WIDTH = 480
"""Pixels that a picture is wide at most."""


def colours(count: int) -> list[str]:
    """Return a colour for each class, ``#rrggbb``: hues a golden angle apart, alternately light and dark."""
    found = []
    for index in range(count):
        rgb = colorsys.hsv_to_rgb(
            index * 0.61803399 % 1, (0.75, 0.5)[index // 2 % 2], (0.95, 0.65)[index % 2]
        )
        found.append("#" + "".join(f"{round(255 * part):02x}" for part in rgb))
    return found


def draw_labels(labels: Tensor, path: Path, classes: int) -> None:
    """Write a label map, (H, W), in the colours of its first ``classes`` classes; the others and `VOID` are black."""
    picture = Image.fromarray(labels.numpy().astype(np.uint8))
    palette = [int(colour[at : at + 2], 16) for colour in colours(classes) for at in (1, 3, 5)]
    picture.putpalette([*palette, *[0, 0, 0] * (VOID + 1 - classes)])
    _save(picture, path, Image.Resampling.NEAREST)


def draw_image(image: Tensor, path: Path) -> None:
    """Write an image, uint8 (C, H, W) with one channel or three."""
    channels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(channels[..., 0] if channels.shape[2] == 1 else np.ascontiguousarray(channels))
    _save(picture, path, Image.Resampling.BILINEAR)


def _save(picture: Image.Image, path: Path, resampling: Image.Resampling) -> None:
    if picture.width > _MAX_WIDTH:
        picture = picture.resize((_MAX_WIDTH, round(picture.height * _MAX_WIDTH / picture.width)), resampling)
    picture.save(path, optimize=True)
