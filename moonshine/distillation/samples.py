"""Samples of a loss on logits: images, or the pixels of label maps that have a label."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from moonshine.data.batches import UNLABELLED
from moonshine.errors import MoonshineError
from moonshine.training.labels import at_least_fp32


@contextmanager
def paired(term: str, student: Tensor, teacher: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Within the context, without autocast, both networks' logits in fp32 at least, the teacher's without gradient.

    Logits are (N, K) and labels (N,) int64, or (N, K, H, W) and (N, H, W). MoonshineError naming ``term`` for others.
    """
    if student.ndim not in (2, 4) or student.shape != teacher.shape:
        raise MoonshineError(
            f"{term}: student logits have shape {tuple(student.shape)} and teacher logits "
            f"{tuple(teacher.shape)}; allowed: the same (N, K) or (N, K, H, W)"
        )
    wanted = (len(student), *student.shape[2:])
    if labels.shape != wanted:
        raise MoonshineError(
            f"{term}: labels have shape {tuple(labels.shape)}; allowed: {wanted}, one per row or pixel"
        )
    with torch.autocast(student.device.type, enabled=False):
        yield at_least_fp32(student), at_least_fp32(teacher.detach())


def mean_of_labelled(samples: Tensor, labels: Tensor) -> Tensor:
    """Mean of the losses of samples, (N,) or (N, H, W); of pixels, those without a label are left out."""
    if labels.ndim == 1:
        return samples.mean()
    known = labels != UNLABELLED
    return (samples * known).sum() / known.sum().clamp(min=1)
