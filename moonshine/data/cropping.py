"""Random crops and mirroring of a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from moonshine.config.augment import Augment
from moonshine.errors import MoonshineError


@dataclass(frozen=True)
class Crop:
    """Crop of ``size`` (height, width) from an image padded by ``padding``, at one of ``rows`` x ``columns`` places."""

    padding: int
    size: tuple[int, int]
    rows: int
    columns: int

    @property
    def moves(self) -> bool:
        return (self.padding, self.rows, self.columns) != (0, 1, 1)


def crop_of(augment: Augment | None, image: Sequence[int]) -> Crop:
    """Return the crop of images of (height, width) ``image``. MoonshineError if it is larger than the padded images."""
    height, width = image
    padding = augment.crop_padding if augment else 0
    crop = (augment.crop if augment else None) or image
    size = crop[0], crop[1]
    rows, columns = height + 2 * padding - size[0] + 1, width + 2 * padding - size[1] + 1
    if min(rows, columns) < 1:
        raise MoonshineError(
            f"augment.crop: found {list(size)}; allowed: at most {[height + 2 * padding, width + 2 * padding]}, the "
            "height and width of the images with crop_padding on every side"
        )
    return Crop(padding, size, rows, columns)


def crop_and_mirror(
    images: Tensor,
    top: Tensor,
    left: Tensor,
    mirrored: Tensor | None,
    padding: int,
    size: tuple[int, int],
    fill: int = 0,
) -> Tensor:
    """Pad (N, C, H, W) images with ``fill``, cut ``size`` out of each at its (top, left), mirror those marked.

    One gather for the whole batch: a mirrored image is one whose columns are read backwards.
    """
    count, channels, _, width = images.shape
    padded = F.pad(images, (padding,) * 4, value=fill).flatten(2)
    rows = top[:, None] + torch.arange(size[0], device=images.device)
    columns = torch.arange(size[1], device=images.device).expand(count, size[1])
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], size[1] - 1 - columns, columns)
    columns = columns + left[:, None]
    pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    index = pixels.view(count, 1, size[0] * size[1]).expand(-1, channels, -1)
    return padded.gather(2, index).view(count, channels, *size)
