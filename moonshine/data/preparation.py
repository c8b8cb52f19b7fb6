"""From a dataset kind to the two prepared files."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moonshine.data import arrays, cifar, digits
from moonshine.data.source import Array, Source, check
from moonshine.data.splitting import Indices, hold_out
from moonshine.data.store import SPLITS, write
from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from moonshine.config import Data

KINDS: dict[str, Callable[[Any], Source]] = {
    "digits": digits.read,
    "cifar10": cifar.read,
    "cifar100": cifar.read,
    "arrays": arrays.read,
}
"""``data.name`` -> reader of that kind, which takes its section of the study."""

CHUNK = 1024
"""Images converted at once: what is copied on the way stays small beside the arrays."""


def prepare(config: Data, folder: Path | str) -> dict[str, Any]:
    """Read, verify and split the data of a study, write it into ``folder``, and return its description.

    Images become uint8 (N, C, H, W), resized to ``config.size`` squared where that differs (bilinear, with
    antialiasing where they shrink). ``config.validation`` of the training images, stratified, become the
    validation split unless the source brings its own. ``mean`` and ``std`` are those of the training images
    that remain. The same study gives the same bytes. Nothing is written before everything is verified.
    Raises MoonshineError for data that is missing, damaged or inconsistent, and for a folder that cannot be
    written.
    """
    source = check(KINDS[config.name](config))
    tensors = {}
    for name, (images, labels, indices) in _parts(source, config).items():
        tensors[f"{name}_images"] = _planar(images, indices, config.size)
        tensors[f"{name}_labels"] = torch.from_numpy(labels[indices])
    train = tensors["train_images"]
    names = source.class_names or ()
    mean, std = _statistics(source.where, train)
    description = {
        "name": config.name,
        "counts": {name: len(tensors.get(f"{name}_labels", ())) for name in SPLITS},
        "channels": train.shape[1],
        "height": train.shape[2],
        "width": train.shape[3],
        "num_classes": len(names),
        "class_names": list(names),
        "mean": mean,
        "std": std,
        "source": source.description,
    }
    return write(folder, tensors, description, source.sha256)


def _parts(source: Source, config: Data) -> dict[str, tuple[Array, Array, Indices]]:
    """Split -> images, labels, and the indices of those that belong to it."""

    def whole(images: Array, labels: Array) -> tuple[Array, Array, Indices]:
        return images, labels, np.arange(len(labels))

    images, labels = source.train_images, source.train_labels
    parts = {"train": whole(images, labels), "test": whole(source.test_images, source.test_labels)}
    if source.validation_images is not None and source.validation_labels is not None:
        parts["validation"] = whole(source.validation_images, source.validation_labels)
    elif config.validation > 0:
        kept, held = hold_out(labels, config.validation, seed=config.split_seed, key="data.validation")
        parts |= {"train": (images, labels, kept), "validation": (images, labels, held)}
    return parts


def _planar(images: Array, indices: Indices, size: int | None) -> Tensor:
    """Chosen images of (N, H, W, C) as one (n, C, size, size) tensor; ``size`` None keeps their own size."""
    height, width = (size, size) if size else images.shape[1:3]
    planar = torch.empty(len(indices), images.shape[3], height, width, dtype=torch.uint8)
    for start in range(0, len(indices), CHUNK):
        chunk = torch.from_numpy(images[indices[start : start + CHUNK]]).permute(0, 3, 1, 2)
        planar[start : start + CHUNK] = _resized(chunk, height, width)
    return planar


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    if images.shape[2:] == (height, width):
        return images
    shrinks = height < images.shape[2] or width < images.shape[3]
    resized = F.interpolate(
        images.float(), (height, width), mode="bilinear", align_corners=False, antialias=shrinks
    )
    return resized.round().to(torch.uint8)


def _statistics(where: str, images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of pixels in [0, 1], from integer sums and so exact."""
    means, deviations = [], []
    for channel in range(images.shape[1]):
        histograms = [
            torch.bincount(chunk[:, channel].flatten(), minlength=256) for chunk in images.split(CHUNK)
        ]
        pixels: list[int] = torch.stack(histograms).sum(0).tolist()  # by value, 0 to 255
        count = sum(pixels)
        total = sum(value * n for value, n in enumerate(pixels))
        squares = sum(value * value * n for value, n in enumerate(pixels))
        variance = count * squares - total * total
        if variance == 0:
            raise MoonshineError(
                f"{where}: channel {channel} of the training images is {total // count} in every pixel; "
                "allowed: channels that vary"
            )
        means.append(total / (255 * count))
        deviations.append(sqrt(variance) / (255 * count))
    return means, deviations
