"""Knowledge distillation (KD): the student's logits against the teacher's."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from moonshine.config.methods import KD
from moonshine.data.batches import UNLABELLED
from moonshine.distillation.outputs import Needs, Outputs
from moonshine.distillation.term import Pair, Term
from moonshine.errors import MoonshineError
from moonshine.training.labels import at_least_fp32


class Loss(Term):
    """KD loss, which leaves a share of ``1 - alpha`` to the cross-entropy on the labels."""

    student = teacher = Needs(logits=True)

    def __init__(self, settings: KD, pair: Pair) -> None:
        super().__init__()
        self.label_share = 1 - settings.alpha
        self._settings = settings.model_dump()

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        assert student.logits is not None
        assert teacher.logits is not None
        return knowledge_distillation(student.logits, teacher.logits, labels, **self._settings)


def knowledge_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    form: str,
    temperature: float,
    alpha: float,
) -> Tensor:
    """Weighted KD loss, beside which the cross-entropy counts ``1 - alpha``: a scalar.

    Logits are (N, K), labels (N,) int64; or (N, K, H, W) and (N, H, W), where each pixel with a label is a sample, and
    the others are left out. With ``p = softmax(teacher / T)``, ``q = softmax(student / T)``, N samples and K classes:

    * ``textbook``: ``alpha * T^2 * 1/N sum_n KL(p_n || q_n)`` (Hinton et al., 2015);
    * ``released``: ``alpha * 2 T^2 * 1/(N K) sum_n KL(p_n || q_n)``, K/2 times weaker: funcs.py
      ``distillation`` of the released code averages over classes as well as over the batch. The authors' KD
      figures were made with it.

    MoonshineError for logits or labels whose shapes differ.
    """
    if student_logits.ndim not in (2, 4) or student_logits.shape != teacher_logits.shape:
        raise MoonshineError(
            f"kd: student logits have shape {tuple(student_logits.shape)} and teacher logits "
            f"{tuple(teacher_logits.shape)}; allowed: the same (N, K) or (N, K, H, W)"
        )
    wanted = (len(student_logits), *student_logits.shape[2:])
    if labels.shape != wanted:
        raise MoonshineError(
            f"kd: labels have shape {tuple(labels.shape)}; allowed: {wanted}, one per row or pixel"
        )
    with torch.autocast(student_logits.device.type, enabled=False):
        pointwise = F.kl_div(
            F.log_softmax(at_least_fp32(student_logits) / temperature, dim=1),
            F.log_softmax(at_least_fp32(teacher_logits.detach()) / temperature, dim=1),
            reduction="none",
            log_target=True,
        )
        return alpha * temperature**2 * _mean_of_labelled(KD_FORMS[form](pointwise), labels)


KD_FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "textbook": lambda pointwise: pointwise.sum(dim=1),
    "released": lambda pointwise: 2 * pointwise.mean(dim=1),
}
"""Form -> each sample's loss from the (N, K, ...) terms ``p log(p/q)``, before alpha T^2."""


def _mean_of_labelled(samples: Tensor, labels: Tensor) -> Tensor:
    if labels.ndim == 1:
        return samples.mean()
    known = labels != UNLABELLED
    return (samples * known).sum() / known.sum().clamp(min=1)
