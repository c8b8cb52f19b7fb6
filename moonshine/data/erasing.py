"""Erasing of rectangles in training images: cutout and random erasing."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from moonshine.config.augment import Augment, Erasing
from moonshine.data.seeding import seeded


def erased_boxes(augment: Augment, count: int, size: tuple[int, int], seed: int, epoch: int) -> list[Tensor]:
    """Return the rectangles (count, 4), as in `erase`, of each kind of erasing of a split's images in one epoch.

    ``size`` is the (height, width) of the images.
    """
    found = []
    if augment.cutout:
        found.append(_squares(count, augment.cutout, size, seeded("cutout", seed, epoch)))
    if augment.erasing:
        found.append(_rectangles(count, augment.erasing, size, seeded("erasing", seed, epoch)))
    return found


def _squares(count: int, side: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw a square per image, (count, 4) as in `erase`, whose centre is any pixel, so that it may extend beyond.

    Source: DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017. Their code,
    which fills with the mean too, takes the next smaller even side.
    """
    height, width = size
    top = torch.randint(height, (count,), generator=generator) - side // 2
    left = torch.randint(width, (count,), generator=generator) - side // 2
    return torch.stack([top, left, top + side, left + side], dim=1)


def _rectangles(count: int, settings: Erasing, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw a rectangle per image, (count, 4) as in `erase`; an empty one where nothing is erased.

    Source: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020; distributions as in torchvision's
    ``RandomErasing``, which draws again where a side exceeds the image's: here it becomes the image's.
    """
    height, width = size
    chosen, area, ratio, down, along = torch.rand(5, count, generator=generator, dtype=torch.float64)
    (least, most), (narrow, wide) = settings.scale, settings.ratio
    area = (least + (most - least) * area) * height * width
    ratio = (log(narrow) + (log(wide) - log(narrow)) * ratio).exp()
    is_chosen = chosen < settings.probability
    rows = (area / ratio).sqrt().round().clamp(max=height) * is_chosen
    columns = (area * ratio).sqrt().round().clamp(max=width)
    top, left = (down * (height - rows + 1)).floor(), (along * (width - columns + 1)).floor()
    return torch.stack([top, left, top + rows, left + columns], dim=1).long()


def erase(images: Tensor, boxes: Tensor) -> Tensor:
    """Set a rectangle, (top, left, bottom, right) of ``boxes`` (n, 4), of each image (n, C, H, W) to 0.

    That is the mean of the training images once they are normalised.
    """
    top, left, bottom, right = boxes.to(images.device, non_blocking=True)[:, :, None].unbind(1)
    rows = torch.arange(images.shape[2], device=images.device)
    columns = torch.arange(images.shape[3], device=images.device)
    inside = ((rows >= top) & (rows < bottom))[:, :, None] & ((columns >= left) & (columns < right))[:, None]
    return images.masked_fill(inside[:, None], 0)
