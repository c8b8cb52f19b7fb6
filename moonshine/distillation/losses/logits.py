"""Logit regression, also known as model compression: the student's logits are fitted to the teacher's."""

from __future__ import annotations

from torch import Tensor

from moonshine.config.methods import Logits
from moonshine.distillation.samples import mean_of_labelled, paired
from moonshine.distillation.term import LogitTerm, Pair
from moonshine.training.objective import Batch


class Loss(LogitTerm):
    """Regression loss, which leaves the share that its settings name to the cross-entropy on the labels."""

    def __init__(self, settings: Logits, pair: Pair) -> None:
        super().__init__()
        self.label_share = settings.labels
        self._weight = settings.weight

    def of_logits(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        return self._weight * logit_regression(student, teacher, batch.labels)


def logit_regression(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """``1/(2N) sum_n ||student_n - teacher_n||_2^2``, the sum over classes and the mean over samples: a scalar.

    Logits are (N, K), labels (N,) int64; or (N, K, H, W) and (N, H, W), where each pixel with a label is a sample.
    Labels serve to leave the other pixels out, and for nothing else. Logits come before any softmax and temperature.
    MoonshineError for logits or labels whose shapes differ.
    Source: Ba & Caruana, "Do Deep Nets Really Need to be Deep?", 2014, section 2; after Buciluă et al., "Model
    Compression", 2006.
    """
    with paired("logits", student_logits, teacher_logits, labels) as (student, teacher):
        return mean_of_labelled((student - teacher).square().sum(dim=1) / 2, labels)
