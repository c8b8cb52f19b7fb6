"""Batches on the training device. Order and augmentation depend on (seed, epoch) only."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from moonshine.config.augment import Augment
from moonshine.data.cropping import Crop, crop_and_mirror, crop_of
from moonshine.data.decoding import Pixels, decode_batches
from moonshine.data.encoded import EncodedSplit
from moonshine.data.erasing import erase, erased_boxes
from moonshine.data.loader import LoadedSplit
from moonshine.data.seeding import seeded
from moonshine.data.store import VOID, AnySplit, Split
from moonshine.data.trivial_augment import augmented, draw_operations

UNLABELLED = -100
"""Label of a void pixel in a batch; torch's losses ignore it by default."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Random choices of one epoch over N images; all but ``order`` are indexed by image, not by position.

    ``order`` (N,) is a permutation; ``top``, ``left`` (N,) are the corners of crops; ``mirrored`` (N,) is bool.
    """

    order: Tensor
    top: Tensor
    left: Tensor
    mirrored: Tensor


def draw(count: int, *, seed: int, epoch: int, rows: int, columns: int) -> Draws:
    """Draw one epoch from (seed, epoch) alone; the global generators are neither read nor moved.

    A crop begins at one of ``rows`` x ``columns`` places. The order does not depend on them, nor the mirroring on
    anything but ``count``: switching one augmentation on or off leaves the rest of an epoch as it was.
    """
    generator = seeded("batches", seed, epoch)
    order = torch.randperm(count, generator=generator)
    mirrored = torch.randint(2, (count,), generator=generator).bool()
    top = torch.randint(rows, (count,), generator=generator)
    left = torch.randint(columns, (count,), generator=generator)
    return Draws(order, top, left, mirrored)


def chunk_size(most: int, height: int, width: int) -> int:
    """Return the images to process at a time: ``most`` up to 64x64, beyond that as many as have equally many pixels."""
    return min(most, max(1, most * 64 * 64 // (height * width)))


def batches(
    split: AnySplit | LoadedSplit,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    augment: Augment | None,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str,
    shuffle: bool = True,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    shard: tuple[int, int] = (0, 1),
    workers: int = 0,
    with_previous: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image of a split once: (images (N, C, H, W) of ``dtype``, labels) on ``device``.

    Labels are int64, (N,) or (N, H, W) with `UNLABELLED` where a pixel is void. With ``augment`` each image is padded
    by zeros (black before normalisation), cropped at a random place, and mirrored with probability 1/2, together with
    its label map; then its shape or colours may change, and rectangles be erased. None leaves images unchanged;
    ``shuffle=False`` keeps their order. The last batch may be smaller.
    Pixels become ``(x / 255 - mean) / std``, computed in fp32. Images are moved to ``device`` as uint8, batch by batch,
    unless the split is there already (``Split.to``). ``shard`` (i, n) yields the i-th of n equal parts of every batch.
    ``workers`` processes decode images that are not decoded ahead, see `moonshine.data.decoding.decode_batches`.
    ``with_previous``: each begins with the image before its own, that before the first of a whole batch being its last.
    The batches of a `LoadedSplit` come as its loader makes them: none of these settings but ``device`` and
    ``channels_last`` concerns them.
    MoonshineError for a crop that is larger than the padded images, for augmentation that label maps cannot have, and
    as for `decode_batches`.
    """
    device = torch.device(device)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    if isinstance(split, LoadedSplit):
        yield from split.batches(device, memory_format)
        return
    if augment and split.is_dense:
        augment.check_label_maps()
    crop = crop_of(augment, split.image_shape[1:])
    draws = draw(len(split), seed=seed, epoch=epoch, rows=crop.rows, columns=crop.columns)
    order = draws.order if shuffle else torch.arange(len(split))
    chosen = [order[here] for here in _places(len(split), batch_size, shard, with_previous)]
    mirrored = draws.mirrored if augment and augment.flip else None
    if isinstance(split, EncodedSplit):
        pixels = Pixels(split, augment.resized_crop if augment else None, seed, epoch, mirrored)
        moved = _from_encoded(pixels, chosen, device, workers)
    else:
        moved = _from_arrays(split, chosen, draws, crop, mirrored, device)
    operations = draw_operations(len(split), seed, epoch) if augment and augment.trivial_augment else None
    erased = erased_boxes(augment, len(split), crop.size, seed, epoch) if augment else []
    affine = _affine(mean, std, device)
    with closing(moved):
        for indices, (images, labels) in zip(chosen, moved, strict=True):
            if operations:
                images = augmented(images, *(part[indices] for part in operations))
            normalised = _normalised(images, *affine)
            for boxes in erased:
                normalised = erase(normalised, boxes[indices])
            # Two steps: torch is three times slower when one copy both casts and reorders (measured, CPU).
            images = normalised.to(dtype).contiguous(memory_format=memory_format)
            if split.is_dense:
                labels = labels.long()
                labels = labels.masked_fill_(labels == VOID, UNLABELLED)
            yield images, labels


def batch_count(split: AnySplit | LoadedSplit, batch_size: int) -> int:
    """Return the number of batches in an epoch."""
    return len(split.loader) if isinstance(split, LoadedSplit) else math.ceil(len(split) / batch_size)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise uint8 images (N, C, H, W) for a network: ``(x / 255 - mean) / std``, in fp32 as in `batches`."""
    return _normalised(images, *_affine(mean, std, images.device))


def _normalised(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return images.float().mul_(scale).add_(shift)


def evaluation_images(split: AnySplit, chosen: Iterable[Tensor], *, workers: int = 0) -> Generator[Tensor]:
    """Yield the images of each tensor of indices in ``chosen``, uint8 (n, C, H, W), as evaluated, unnormalised.

    MoonshineError as for `batches`.
    """
    if isinstance(split, EncodedSplit):
        yield from decode_batches(Pixels(split), list(chosen), workers=workers)
    else:
        for indices in chosen:
            yield split.images[indices]


def _from_encoded(
    pixels: Pixels, chosen: Sequence[Tensor], device: torch.device, workers: int
) -> Generator[tuple[Tensor, Tensor]]:
    """Yield pixels and labels on ``device``."""
    with closing(decode_batches(pixels, chosen, workers=workers, pinned=device.type == "cuda")) as decoded:
        for indices, images in zip(chosen, decoded, strict=True):
            labels = pixels.split.labels[indices]
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _from_arrays(
    split: Split,
    chosen: Sequence[Tensor],
    draws: Draws,
    crop: Crop,
    mirrored: Tensor | None,
    device: torch.device,
) -> Generator[tuple[Tensor, Tensor]]:
    """Yield cropped and mirrored pixels and labels on ``device``."""
    for indices in chosen:
        there = indices.to(split.images.device)
        images, labels = (
            part.index_select(0, there).to(device, non_blocking=True) for part in (split.images, split.labels)
        )
        if crop.moves or mirrored is not None:
            top, left = (part[indices].to(device, non_blocking=True) for part in (draws.top, draws.left))
            turned = mirrored[indices].to(device, non_blocking=True) if mirrored is not None else None
            images = crop_and_mirror(images, top, left, turned, crop.padding, crop.size)
            if split.is_dense:
                maps = crop_and_mirror(labels[:, None], top, left, turned, crop.padding, crop.size, VOID)
                labels = maps[:, 0]
        yield images, labels


def _places(count: int, batch_size: int, shard: tuple[int, int], with_previous: bool) -> Iterator[Tensor]:
    """Yield the places, in the order of ``count`` images, of this shard's part of every batch."""
    index, shards = shard
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        first, end = size * index // shards, size * (index + 1) // shards
        yield start + torch.arange(first - with_previous, end) % size


def _affine(mean: Sequence[float], std: Sequence[float], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return factor and offset that normalise raw pixels, (C, 1, 1) in fp32: a pixel of 0 becomes the offset."""
    centre, spread = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std))
    return (1 / (255 * spread)).float().to(device), (-centre / spread).float().to(device)
