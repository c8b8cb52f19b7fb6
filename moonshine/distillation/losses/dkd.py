"""Decoupled knowledge distillation (DKD): the target class against all others, and these among themselves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from moonshine.config.methods import DKD
from moonshine.distillation.samples import mean_of_labelled, paired
from moonshine.distillation.term import LogitTerm, Pair
from moonshine.errors import MoonshineError
from moonshine.substitution.watching import zero_pass
from moonshine.training.objective import Batch


class Loss(LogitTerm):
    """DKD loss beside the whole cross-entropy; over the first ``warmup`` epochs its weight rises linearly to 1."""

    def __init__(self, settings: DKD, pair: Pair) -> None:
        super().__init__()
        _check_classes(zero_pass(pair.teacher, pair.input_shape))
        self._settings = settings.model_dump(exclude={"warmup"})
        self._warmup = settings.warmup

    def of_logits(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        risen = min(1.0, (batch.epoch + 1) / self._warmup) if self._warmup else 1.0
        return risen * decoupled(student, teacher, batch.labels, **self._settings)


def decoupled(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
    beta: float,
) -> Tensor:
    """``T^2 * 1/N sum_n (alpha * TCKD_n + beta * NCKD_n)``: a scalar.

    With ``p = softmax(teacher / T)``, ``q = softmax(student / T)`` and the label t of a sample:

    * ``TCKD = KL((p_t, 1 - p_t) || (q_t, 1 - q_t))``, the target class against all others;
    * ``NCKD = KL(p' || q')``, where ``p'_k = p_k / (1 - p_t)`` for all classes k but t: 0 where there are two.

    KD is ``TCKD + (1 - p_t) NCKD``. Logits are (N, K), labels (N,) int64; or (N, K, H, W) and (N, H, W), where each
    pixel with a label is a sample, and the others are left out. All is computed from logarithms, so that nothing
    overflows where p_t or q_t is 1; the released code takes the logarithm of ``1 - q_t``.
    MoonshineError for a single class, and for logits or labels whose shapes differ.
    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, section 3; weights and warm-up as in its code.
    """
    with paired("dkd", student_logits, teacher_logits, labels) as (student, teacher):
        _check_classes(student)
        is_target = torch.zeros_like(student, dtype=torch.bool)
        is_target.scatter_(1, labels.clamp(min=0).unsqueeze(1), True)
        (p, p_others), (q, q_others) = (_split(each / temperature, is_target) for each in (teacher, student))
        target = F.kl_div(q, p, reduction="none", log_target=True).sum(dim=1)
        others = F.kl_div(q_others, p_others, reduction="none", log_target=True).sum(dim=1)
        return temperature**2 * mean_of_labelled(alpha * target + beta * others, labels)


def _split(logits: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of (p_t, 1 - p_t), (N, 2, ...), and of p', (N, K, ...), which has 0 at the target."""
    others = logits.masked_fill(is_target, -torch.inf)
    of_target = logits.masked_fill(~is_target, 0).sum(dim=1)
    pair = torch.stack([of_target, others.logsumexp(dim=1)], dim=1)
    return pair.log_softmax(dim=1), others.log_softmax(dim=1).masked_fill(is_target, 0)


def _check_classes(logits: Tensor) -> None:
    if logits.shape[1] < 2:
        raise MoonshineError(f"dkd: found logits of {logits.shape[1]} class; allowed: at least 2")
