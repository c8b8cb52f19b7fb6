"""Attention transfer (AT): the student's attention maps are pulled towards the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from moonshine.config.methods import AT
from moonshine.distillation.outputs import MapOf, Needs, Outputs
from moonshine.distillation.term import Pair, Term
from moonshine.errors import MoonshineError
from moonshine.training.objective import Batch

PAPER_MAPS = 3
"""Number of attention maps to which the released code's beta refers (main.py: ``adjusted_beta``)."""

REFERENCE_PIXELS = 32 * 32
"""Pixels of the first tapped map in the paper's CIFAR experiments, where beta 1000 was chosen."""


class Loss(Term):
    """Attention-transfer loss on the taps of both networks."""

    def __init__(self, settings: AT, pair: Pair) -> None:
        super().__init__()
        if not pair.taps:
            raise MoonshineError(
                "taps: none given, and the teacher has no attribute 'taps'; name the modules to transfer"
            )
        maps = tuple(MapOf(tap, settings.map, settings.p) for tap in pair.taps)
        self.student = self.teacher = Needs(maps=maps)
        self._form, self._beta = settings.form, settings.beta

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        maps = ([outputs.maps[each] for each in self.student.maps] for outputs in (student, teacher))
        return attention_transfer(*maps, form=self._form, beta=self._beta)


def attention_transfer(
    student: Sequence[Tensor], teacher: Sequence[Tensor], *, form: str, beta: float
) -> Tensor:
    """Weighted attention-transfer loss between paired maps, ``beta * L_form``: a scalar.

    ``student`` and ``teacher`` hold one `attention_map` (N, H, W) per tap, in the same order. With n maps of H_i x W_i
    pixels and ``d_i = student_i - teacher_i``, whatever the kind of map:

    * ``released``: ``3/n * sum_i mean_{sample, pixel} d_i^2``, as the released code computes it. At the same
      beta it weakens as maps grow (64 times from 32x32 to 256x256) and strengthens as they shrink.
    * ``paper``: ``sum_i mean_sample ||d_i||_2``, the un-squared norm of the published equation. Its factor is
      taken as beta, not the beta/2 of Zagoruyko & Komodakis (2017, eq. 2), so that beta multiplies the sum in
      every form: halve a beta of theirs. There is no 3/n, which is the released code's alone.
    * ``resolution-free``: ``released * H_1 * W_1 / 1024``, H_1 x W_1 being the first map: beta means at every
      input size what it means on 32x32, where the two forms are equal.

    MoonshineError for no maps, and for maps of different numbers or shapes.
    """
    if len(student) != len(teacher) or not student:
        raise MoonshineError(
            f"at: {len(student)} maps of the student and {len(teacher)} of the teacher; "
            "allowed: the same number, at least 1"
        )
    for index, (s, t) in enumerate(zip(student, teacher, strict=True)):
        if s.shape != t.shape:
            raise MoonshineError(
                f"at: map {index} is {tuple(s.shape)} in the student and {tuple(t.shape)} in the teacher; "
                "allowed: (N, H, W), the same in both"
            )
    with torch.autocast(student[0].device.type, enabled=False):
        return beta * AT_FORMS[form](
            [(s - t.detach()).flatten(1) for s, t in zip(student, teacher, strict=True)]
        )


def _released(differences: Sequence[Tensor]) -> Tensor:
    return PAPER_MAPS / len(differences) * torch.stack([d.square().mean() for d in differences]).sum()


def _paper(differences: Sequence[Tensor]) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(d, dim=1).mean() for d in differences]).sum()


def _resolution_free(differences: Sequence[Tensor]) -> Tensor:
    return _released(differences) * (differences[0].shape[1] / REFERENCE_PIXELS)


AT_FORMS: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "released": _released,
    "paper": _paper,
    "resolution-free": _resolution_free,
}
"""Form -> loss of the differences of maps, (N, H_i * W_i) each, before beta; see `attention_transfer`."""
