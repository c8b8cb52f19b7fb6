"""Gradient-based attention transfer: the student's loss depends on its input as the teacher's does."""

from __future__ import annotations

import torch
from torch import Tensor

from moonshine.config.methods import GradientAT
from moonshine.distillation.outputs import Needs, Outputs
from moonshine.distillation.term import Pair, Term
from moonshine.training.objective import Batch


class Loss(Term):
    """Gradient-based attention-transfer loss, beside the whole cross-entropy.

    Its gradient is a second derivative of the student, which trains in fp32 for it, about five times as long.
    """

    student = teacher = Needs(input_gradient=True)

    def __init__(self, settings: GradientAT, pair: Pair) -> None:
        super().__init__()
        self._beta = settings.beta

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        assert student.input_gradient is not None
        assert teacher.input_gradient is not None
        return self._beta * gradient_transfer(student.input_gradient, teacher.input_gradient)


def gradient_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """``1/N sum_n ||J_student,n - J_teacher,n||_2``, of input gradients (N, C, H, W): a scalar.

    ``J_n = dL_n/dx_n``, L_n being the cross-entropy of image x_n, not divided by the number of images.
    Source: Zagoruyko & Komodakis (2017), section 3.2, with the factor beta for their beta/2, as in
    `moonshine.distillation.losses.at`. Their code has no gradient-based transfer.
    """
    with torch.autocast(student.device.type, enabled=False):
        return torch.linalg.vector_norm((student - teacher.detach()).flatten(1), dim=1).mean()
