"""Mean intersection over union (mIoU) of label maps, and its standard error over the test images."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor


def overlaps(predicted: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Pixels of each image where prediction and label are both a class, and where at least one is: two (N, K).

    ``predicted`` and ``labels`` are int64 (N, H, W). Pixels whose label is none of 0 to K - 1 are left out, whatever
    was predicted there; a prediction beyond K - 1 misses its pixel's class and counts for no other.
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
    """Intersection over union of each class in percent, (..., K); NaN where neither label nor prediction show it."""
    return 100 * intersection.double() / union.double()


def mean_iou(intersection: Tensor, union: Tensor) -> Tensor:
    """The mean over the classes that occur of their IoU over all images, in percent: (..., K) -> (...)."""
    return iou(intersection, union).nanmean(-1)


def image_values(intersection: Tensor, union: Tensor) -> Tensor | None:
    """What each image says of the mIoU, (N,): jackknife pseudo-values, n * all - (n - 1) * all without it, percent.

    (N, K) as from `overlaps`. Their mean is nearly the mIoU, and their deviation over sqrt(N) its standard error
    (Tukey, 1958): the mIoU is no mean over images, so it has no binomial error. None where only one image has labels or
    none has: without that one there is no mIoU.
    """
    count = len(intersection)
    without = mean_iou(intersection.sum(0) - intersection, union.sum(0) - union)
    if without.isnan().any():
        return None
    return count * mean_iou(intersection.sum(0), union.sum(0)) - (count - 1) * without


def standard_error(values: Tensor | None) -> float | None:
    """The standard error of the mean of independent values, s / sqrt(n); None of fewer than two."""
    if values is None or len(values) < 2:
        return None
    return float(values.std(correction=1)) / sqrt(len(values))
