"""Mean intersection over union (mIoU) in semantic segmentation, and its standard error over test images."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor


def overlaps(predicted: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return intersection and union of prediction and ground truth, in pixels by image and class: two (N, K).

    ``predicted`` and ``labels`` are int64 (N, H, W). Pixels with a label outside of 0 to K - 1 are ignored. A
    prediction of K or more misses the pixel's class and counts for no other class.
    """
    labelled = (labels >= 0) & (labels < classes)
    counted = labelled & (predicted < classes)
    offset = torch.arange(len(labels), device=labels.device).view(-1, 1, 1) * classes

    def counts(values: Tensor, where: Tensor) -> Tensor:
        found = torch.bincount((values + offset)[where], minlength=len(labels) * classes)
        return found.view(len(labels), classes)

    both = counts(labels, labelled & (predicted == labels))
    return both, counts(labels, labelled) + counts(predicted, counted) - both


def iou(intersection: Tensor, union: Tensor) -> Tensor:
    """Return the IoU of each class in percent, (..., K); NaN for a class in neither labels nor predictions."""
    return 100 * intersection.double() / union.double()


def mean_iou(intersection: Tensor, union: Tensor) -> Tensor:
    """Return the mean IoU over the classes that occur, in percent: (..., K) -> (...)."""
    return iou(intersection, union).nanmean(-1)


def image_values(intersection: Tensor, union: Tensor) -> Tensor | None:
    """Return each image's jackknife pseudo-value of the mIoU in percent, (N,): n * all - (n - 1) * all without it.

    Both arguments are (N, K), from `overlaps`. The pseudo-values' mean is close to the mIoU, and their standard
    deviation over sqrt(N) is its standard error (Tukey, 1958); the mIoU itself is not a mean over images. None if fewer
    than two images have labels, since leaving one out would leave no mIoU.
    """
    count = len(intersection)
    without = mean_iou(intersection.sum(0) - intersection, union.sum(0) - union)
    if without.isnan().any():
        return None
    return count * mean_iou(intersection.sum(0), union.sum(0)) - (count - 1) * without


def standard_error(values: Tensor | None) -> float | None:
    """Return the standard error of the mean of independent values, s / sqrt(n); None for fewer than two."""
    if values is None or len(values) < 2:
        return None
    return float(values.std(correction=1)) / sqrt(len(values))
