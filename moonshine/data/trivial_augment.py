"""TrivialAugment: one operation, of a random strength, for every image of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from moonshine.data.seeding import seeded

STRENGTHS = 31
"""Strengths of an operation, evenly spaced."""
GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in an image without colour, as in torchvision."""


class Operation(NamedTuple):
    """What ``apply`` makes of images, uint8 (n, C, H, W), with strengths (n, 1, 1, 1) from ``least`` to ``most``.

    With a probability of 1/2 the strength is negated if it is ``signed``.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    least: float = 0.0
    most: float = 0.0
    signed: bool = False


def draw_operations(count: int, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Draw an operation's number and a strength for each of ``count`` images: int64 (count,) and fp32 (count,)."""
    generator = seeded("trivial augment", seed, epoch)
    numbers = torch.randint(len(OPERATIONS), (count,), generator=generator)
    steps = torch.randint(STRENGTHS, (count,), generator=generator)
    negated = torch.randint(2, (count,), generator=generator)
    table = torch.stack([torch.linspace(each.least, each.most, STRENGTHS) for each in OPERATIONS.values()])
    signed = torch.tensor([each.signed for each in OPERATIONS.values()])
    strengths = table[numbers, steps]
    return numbers, torch.where(signed[numbers] & negated.bool(), -strengths, strengths)


def augmented(images: Tensor, numbers: Tensor, strengths: Tensor) -> Tensor:
    """Apply an operation to each image, uint8 (n, C, H, W), by numbers and strengths (n,), which are on the CPU.

    Pixels from outside an image are black; of those in between, the nearest is taken.
    Source: Müller & Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV 2021, the wide
    augmentation space; operations as in torchvision's ``TrivialAugmentWide``, but that an image is shifted by its side
    at most where that is less than 32 pixels, and that any number of channels is allowed.
    """
    found = images.clone()
    for number, operation in enumerate(OPERATIONS.values()):
        chosen = (numbers == number).nonzero().flatten()
        if len(chosen):
            there = chosen.to(images.device, non_blocking=True)
            own = strengths[chosen].to(images.device, non_blocking=True).view(-1, 1, 1, 1)
            found[there] = operation.apply(images[there], own)
    return found


def _warped(images: Tensor, *matrix: Tensor | float) -> Tensor:
    """Images whose pixel (x, y), counted from the centre, is that at ``matrix (x, y, 1)``, 2 x 3, of the original."""
    height, width = images.shape[2:]
    entries = [torch.as_tensor(each, device=images.device).expand(len(images), 1, 1, 1) for each in matrix]
    theta = torch.cat(entries, 1).view(-1, 2, 3).float()
    # in halves of a side, as grid_sample counts
    theta = theta * theta.new_tensor([width, height, 2]) / theta.new_tensor([[width], [height]])
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, "nearest", align_corners=False).to(images.dtype)


def _shifts(strengths: Tensor, side: int) -> Tensor:
    return (strengths * min(32, side)).trunc()


def _rotated(images: Tensor, strengths: Tensor) -> Tensor:
    angles = strengths.deg2rad()
    return _warped(images, angles.cos(), -angles.sin(), 0, angles.sin(), angles.cos(), 0)


def _blended(images: Tensor, other: Tensor, strengths: Tensor) -> Tensor:
    """Move images away from ``other``, or, with a negative strength, towards it: (1 + s) images - s other."""
    return other.float().lerp(images.float(), 1 + strengths).clamp(0, 255).to(images.dtype)


def _grey(images: Tensor) -> Tensor:
    """Images without colour, (n, 1, H, W): the mean of their channels if these are not three."""
    if images.shape[1] != 3:
        return images.float().mean(1, keepdim=True).floor()
    weights = torch.tensor(GREY, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True).floor()


def _contrast(images: Tensor, strengths: Tensor) -> Tensor:
    return _blended(images, _grey(images).mean((1, 2, 3), keepdim=True), strengths)


def _channel_by_channel(name: str, images: Tensor, *options: float) -> Tensor:
    """What torchvision's function of this name gives, which itself takes one or three channels only."""
    from torchvision.transforms.v2 import functional

    channels = images.flatten(0, 1).unsqueeze(1)
    found: Tensor = getattr(functional, name)(channels, *options)
    return found.view_as(images)


def _sharpness(images: Tensor, strengths: Tensor) -> Tensor:
    return _blended(images, _channel_by_channel("adjust_sharpness", images, 0.0), strengths)


def _posterised(images: Tensor, strengths: Tensor) -> Tensor:
    lost = 2 ** (8 - strengths.round())  # of so many neighbouring values the least stays
    return (images // lost * lost).to(images.dtype)


def _solarised(images: Tensor, strengths: Tensor) -> Tensor:
    return torch.where(images >= 255 * strengths, 255 - images, images)


OPERATIONS: dict[str, Operation] = {
    "Identity": Operation(lambda images, _: images),
    "ShearX": Operation(
        lambda images, s: _warped(images, 1, s, s * images.shape[2] / 2, 0, 1, 0), 0, 0.99, True
    ),
    "ShearY": Operation(
        lambda images, s: _warped(images, 1, 0, 0, s, 1, s * images.shape[3] / 2), 0, 0.99, True
    ),
    "TranslateX": Operation(
        lambda images, s: _warped(images, 1, 0, -_shifts(s, images.shape[3]), 0, 1, 0), 0, 1, True
    ),
    "TranslateY": Operation(
        lambda images, s: _warped(images, 1, 0, 0, 0, 1, -_shifts(s, images.shape[2])), 0, 1, True
    ),
    "Rotate": Operation(_rotated, 0, 135, True),
    "Brightness": Operation(lambda images, s: _blended(images, torch.zeros_like(images), s), 0, 0.99, True),
    "Color": Operation(lambda images, s: _blended(images, _grey(images).expand_as(images), s), 0, 0.99, True),
    "Contrast": Operation(_contrast, 0, 0.99, True),
    "Sharpness": Operation(_sharpness, 0, 0.99, True),
    "Posterize": Operation(_posterised, 8, 2),
    "Solarize": Operation(_solarised, 1, 0),
    "AutoContrast": Operation(lambda images, _: _channel_by_channel("autocontrast", images)),
    "Equalize": Operation(lambda images, _: _channel_by_channel("equalize", images)),
}
"""Operations by torchvision's names for them."""
