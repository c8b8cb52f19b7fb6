"""Batches on the training device: order and augmentation depend on (seed, epoch) and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from moonshine.data.store import Split


@dataclass(frozen=True, eq=False)
class Draws:
    """The random part of one epoch over N images; all but ``order`` are indexed by image, not by position.

    ``order`` (N,) is a permutation; ``top``, ``left`` (N,) are 0 to 2 * padding; ``mirrored`` (N,) is bool.
    """

    order: Tensor
    top: Tensor
    left: Tensor
    mirrored: Tensor


def draw(count: int, *, seed: int, epoch: int, padding: int) -> Draws:
    """Draw one epoch from (seed, epoch) alone; the global generators are neither read nor moved.

    The order does not depend on ``padding``, nor the mirroring on anything but ``count``: switching one
    augmentation on or off leaves the rest of an epoch as it was.
    """
    # Hashed, so that (0, 1) and (1, 0), or seed + epoch in general, share nothing.
    digest = hashlib.sha256(f"batches {seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    order = torch.randperm(count, generator=generator)
    mirrored = torch.randint(2, (count,), generator=generator).bool()
    top, left = torch.randint(2 * padding + 1, (2, count), generator=generator)
    return Draws(order, top, left, mirrored)


def batches(
    split: Split,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    augment: tuple[int, bool] | None,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str,
    shuffle: bool = True,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image of a split once: (images (N, C, H, W) of ``dtype``, labels (N,)) on ``device``.

    ``augment`` is (crop padding in pixels, flip): each image is padded by zeros (black before normalisation),
    cropped back to its size at a random place, and mirrored with probability 1/2. None leaves images as they
    are; ``shuffle=False`` keeps their order. The last batch may be smaller. Pixels become
    ``(x / 255 - mean) / std``, computed in fp32. Images travel to ``device`` as uint8, batch by batch, unless
    the split is there already (``Split.to``).
    """
    device = torch.device(device)
    padding, flip = augment or (0, False)
    draws = draw(len(split), seed=seed, epoch=epoch, padding=padding)
    order = draws.order.to(split.images.device) if shuffle else None
    scale, shift = _affine(mean, std, device)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    for start in range(0, len(split), batch_size):
        here = slice(start, start + batch_size)
        if order is None:
            images, labels = split.images[here], split.labels[here]
        else:
            images = split.images.index_select(0, order[here])
            labels = split.labels.index_select(0, order[here])
        images = images.to(device, non_blocking=True)
        if padding or flip:
            chosen = draws.order[here] if shuffle else here
            images = crop_and_mirror(
                images,
                draws.top[chosen].to(device, non_blocking=True),
                draws.left[chosen].to(device, non_blocking=True),
                draws.mirrored[chosen].to(device, non_blocking=True) if flip else None,
                padding,
            )
        normalised = images.float().mul_(scale).add_(shift)
        # Two steps: torch is three times slower when one copy both casts and reorders (measured, CPU).
        images = normalised.to(dtype).contiguous(memory_format=memory_format)
        yield images, labels.to(device, non_blocking=True)


def crop_and_mirror(
    images: Tensor, top: Tensor, left: Tensor, mirrored: Tensor | None, padding: int
) -> Tensor:
    """Pad (N, C, H, W) images with zeros, cut HxW out of each at its (top, left), mirror those marked.

    One gather for the whole batch: a mirrored image is one whose columns are read backwards.
    """
    count, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4).flatten(2)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(count, width)
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
    columns = columns + left[:, None]
    pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    index = pixels.view(count, 1, height * width).expand(-1, channels, -1)
    return padded.gather(2, index).view(count, channels, height, width)


def _affine(mean: Sequence[float], std: Sequence[float], device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and offset that normalise raw pixels, (C, 1, 1) in fp32: a pixel of 0 becomes the offset."""
    centre, spread = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std))
    return (1 / (255 * spread)).float().to(device), (-centre / spread).float().to(device)
