"""Image tensors: allocation, statistics and resize rule."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moonshine.errors import MoonshineError

Parts = Mapping[str, tuple[str, NDArray[np.int64]]]
"""Split -> split of the source that contains its images, and their indices there."""
CHUNK = 1 << 21
"""Pixels times channels processed at a time, which bounds temporary copies whatever the number and size of images."""


def reserve(folder: Path, shape: tuple[int, ...]) -> Tensor:
    """Return a uint8 tensor backed by a file on the disk of ``folder``, for data larger than memory."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            # a disk that fills up later would kill the process
            os.posix_fallocate(file.fileno(), 0, prod(shape))
            return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=shape))
    except OSError as error:
        raise MoonshineError(f"{folder}: cannot write the prepared data here: {error}") from None


def mean_and_std(where: str, images: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel of pixels in [0, 1], exact, from integer sums."""
    means, deviations = [], []
    for channel in range(images.shape[1]):
        histograms = [
            torch.bincount(chunk[:, channel].flatten(), minlength=256)
            for chunk in images.split(max(1, CHUNK // prod(images.shape[1:])))
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


def resize_rule(
    resize: int | Sequence[int] | None, crop: int | None = None, *, antialias: bool = True
) -> dict[str, Any]:
    """Return the resizing of images in torchvision's terms; ``resize`` None: they had their size already."""
    if resize is None:
        return dict.fromkeys(("resize", "crop", "interpolation", "antialias"))
    return {
        "resize": resize if isinstance(resize, int) else list(resize),
        "crop": crop and [crop, crop],
        "interpolation": "bilinear",
        "antialias": antialias,
    }
