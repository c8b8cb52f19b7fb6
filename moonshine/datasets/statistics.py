"""Mean and standard deviation of the training pixels, for normalisation."""

from __future__ import annotations

from math import prod, sqrt

import torch
from torch import Tensor

from moonshine.errors import MoonshineError

CHUNK = 1 << 21
"""Pixels times channels counted at once: what is copied on the way stays small."""


def mean_and_std(where: str, images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of pixels in [0, 1], from integer sums and so exact."""
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
