"""Mixing of training images: mixup and cutmix.

Every image of a batch is mixed with the one before it, the first with the last, since their order is random anyway. As
in the authors' code, all images of a batch are mixed in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from moonshine.config.augment import Augment
from moonshine.data.seeding import seeded

Box = tuple[int, int, int, int]
"""Top, left, bottom and right of a rectangle in pixels."""


@dataclass(frozen=True, eq=False)
class MixedBatch:
    """Labels (N,) of the images that were mixed into a batch, and the ``share`` of the loss that they have."""

    labels: Tensor
    share: float


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed: ``share`` is that of the other image, in each pixel or, with a ``box``, within it alone."""

    share: float
    box: Box | None = None

    def of(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, MixedBatch]:
        """Mix images (1 + N, C, H, W), each but the first with the one before it; return N, and their labels (N,)."""
        other, own = images[:-1], images[1:]
        if self.box is None:
            mixed = own.lerp(other, self.share)
        else:
            top, left, bottom, right = self.box
            mixed = own.clone()
            mixed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
        return mixed, labels[1:], MixedBatch(labels[:-1], self.share)


def draw_mixes(augment: Augment, steps: int, size: tuple[int, int], seed: int, epoch: int) -> list[Mix]:
    """Draw how each of an epoch's batches, of images of (height, width) ``size``, is mixed; none without such a key.

    With both keys, each step draws one of the two.
    """
    if not augment.mixes:
        return []
    random = np.random.default_rng(seeded("mixing", seed, epoch).initial_seed())

    def mix() -> Mix:
        kind, alpha = list(augment.mixes.items())[random.integers(len(augment.mixes))]
        share = float(random.beta(alpha, alpha))
        return Mix(share) if kind == "mixup" else _cut(share, size, random)

    return [mix() for _ in range(steps)]


def _cut(share: float, size: tuple[int, int], random: np.random.Generator) -> Mix:
    """Return a mix by a rectangle of an area's ``share`` around any pixel, less what of it lies outside.

    Source: Yun et al., "CutMix", ICCV 2019, and its code.
    """
    sides = [int(side * share**0.5) for side in size]
    first = [int(random.integers(whole)) - side // 2 for side, whole in zip(sides, size, strict=True)]
    top, left = (max(0, start) for start in first)
    bottom, right = (min(whole, start + side) for start, side, whole in zip(first, sides, size, strict=True))
    return Mix((bottom - top) * (right - left) / (size[0] * size[1]), (top, left, bottom, right))
