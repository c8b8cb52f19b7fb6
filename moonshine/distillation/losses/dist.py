"""Relations between predictions (DIST): the student's correlate with the teacher's, by sample and by class."""

from __future__ import annotations

import torch
from torch import Tensor

from moonshine.config.methods import DIST
from moonshine.data.batches import UNLABELLED
from moonshine.distillation.samples import paired
from moonshine.distillation.term import LogitTerm, Pair
from moonshine.training.objective import Batch

LEAST_NORM = 1e-6
"""Probabilities whose deviations from their mean have a smaller norm are equal but for rounding."""


class Loss(LogitTerm):
    """DIST loss, beside the whole cross-entropy."""

    def __init__(self, settings: DIST, pair: Pair) -> None:
        super().__init__()
        self._settings = settings.model_dump()

    def of_logits(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        return relations(student, teacher, batch.labels, **self._settings)


def relations(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    beta: float,
    gamma: float,
) -> Tensor:
    """``T^2 * (beta/N sum_n (1 - r(p_n, q_n)) + gamma/K sum_k (1 - r(p^k, q^k)))``: a scalar.

    r is Pearson's correlation, ``p = softmax(teacher / T)`` and ``q = softmax(student / T)``; p_n (K,) are the
    probabilities of sample n, and p^k (N,) those of class k over the batch, or over a process's share of it. r is 0,
    without gradient, where either side is constant: a batch of one sample, a network that prefers no class. The
    released code adds 1e-8 to the norms' product instead, and its gradient there is 10^8 times as large.

    Logits are (N, K), labels (N,) int64; or (N, K, H, W) and (N, H, W), where each pixel with a label is a sample, and
    the others are left out. MoonshineError for logits or labels whose shapes differ.
    Source: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, section 3; T^2 as in its code.
    """
    with paired("dist", student_logits, teacher_logits, labels) as pair:
        if labels.ndim > 1:
            known = labels != UNLABELLED
            student, teacher = (logits.movedim(1, -1)[known] for logits in pair)
        else:
            student, teacher = pair
        q, p = ((logits / temperature).softmax(dim=1) for logits in (student, teacher))
        by_sample = (1 - _correlation(p, q)).sum() / max(len(p), 1)
        by_class = (1 - _correlation(p.T, q.T)).mean()
        return temperature**2 * (beta * by_sample + gamma * by_class)


def _correlation(p: Tensor, q: Tensor) -> Tensor:
    """Pearson's correlation of rows, (R, C) twice -> (R,)."""
    p, q = (each - each.mean(dim=1, keepdim=True) for each in (p, q))
    p_norm, q_norm = p.norm(dim=1), q.norm(dim=1)
    differs = (p_norm > LEAST_NORM) & (q_norm > LEAST_NORM)
    return torch.where(differs, (p * q).sum(dim=1) / torch.where(differs, p_norm * q_norm, 1), 0)
