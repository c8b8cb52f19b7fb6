"""Knowledge distillation (KD): the student's logits against the teacher's."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from moonshine.config.methods import KD
from moonshine.distillation.samples import mean_of_labelled, paired
from moonshine.distillation.term import LogitTerm, Pair
from moonshine.training.objective import Batch

LEAST_DEVIATION = 1e-6
"""Logits that deviate less from their mean are equal but for rounding; they count as zeros, without gradient."""


class Loss(LogitTerm):
    """KD loss, which leaves a share of ``1 - alpha`` to the cross-entropy on the labels."""

    def __init__(self, settings: KD, pair: Pair) -> None:
        super().__init__()
        self.label_share = 1 - settings.alpha
        self._settings = settings.model_dump()

    def of_logits(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        return knowledge_distillation(student, teacher, batch.labels, **self._settings)


def knowledge_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    form: str,
    temperature: float,
    alpha: float,
    standardise: bool = False,
) -> Tensor:
    """Weighted KD loss, beside which the cross-entropy counts ``1 - alpha``: a scalar.

    Logits are (N, K), labels (N,) int64; or (N, K, H, W) and (N, H, W), where each pixel with a label is a sample, and
    the others are left out. With ``p = softmax(teacher / T)``, ``q = softmax(student / T)``, N samples and K classes:

    * ``textbook``: ``alpha * T^2 * 1/N sum_n KL(p_n || q_n)`` (Hinton et al., 2015);
    * ``released``: ``alpha * 2 T^2 * 1/(N K) sum_n KL(p_n || q_n)``, K/2 times weaker: funcs.py
      ``distillation`` of the released code averages over classes as well as over the batch. The authors' KD
      figures were made with it.
    * ``unscaled``: ``textbook`` without T^2 (Romero et al., "FitNets", 2015, section 2.1, but for the entropy of p,
      which has no gradient).

    ``standardise``: both networks' logits are first `standardised`.
    MoonshineError for logits or labels whose shapes differ.
    """
    with paired("kd", student_logits, teacher_logits, labels) as (student, teacher):
        if standardise:
            student, teacher = standardised(student), standardised(teacher)
        pointwise = F.kl_div(
            F.log_softmax(student / temperature, dim=1),
            F.log_softmax(teacher / temperature, dim=1),
            reduction="none",
            log_target=True,
        )
        per_sample, power = KD_FORMS[form]
        return alpha * temperature**power * mean_of_labelled(per_sample(pointwise), labels)


def standardised(logits: Tensor) -> Tensor:
    """Logits (N, K, ...) of zero mean and unit variance over the classes: ``(z - mean) / sqrt(1/K sum (z - mean)^2)``.

    Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024. Their code divides the sum by
    K - 1, as if the temperature were sqrt(K / (K - 1)) times as high.
    """
    deviation, mean = torch.std_mean(logits, dim=1, correction=0, keepdim=True)
    differs = deviation > LEAST_DEVIATION
    return torch.where(differs, (logits - mean) / torch.where(differs, deviation, 1), 0)


KD_FORMS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "textbook": (lambda pointwise: pointwise.sum(dim=1), 2),
    "released": (lambda pointwise: 2 * pointwise.mean(dim=1), 2),
    "unscaled": (lambda pointwise: pointwise.sum(dim=1), 0),
}
"""Form -> each sample's loss from the (N, K, ...) terms ``p log(p/q)``, and the power of T that multiplies it."""
