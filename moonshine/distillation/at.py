"""Attention transfer (AT), as a pure function.

Every loss is computed in fp32, also under autocast and for bf16 or fp16 inputs (float64 stays float64), and
its gradient reaches the student only. A form is one entry of ``AT_FORMS``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from moonshine.errors import MoonshineError

PAPER_MAPS = 3
"""Number of attention maps to which the released code's beta refers (main.py: ``adjusted_beta``)."""

REFERENCE_PIXELS = 32 * 32
"""Pixels of the first tapped map in the paper's CIFAR experiments, where beta 1000 was chosen."""


def attention_map(activation: Tensor) -> Tensor:
    """Where a network looks: the energy of an activation at each pixel, as one unit vector per sample.

    ``f(A) = m / ||m||_2`` with ``m = mean over channels of A^2``, flattened. (N, C, H, W) -> (N, H*W). An
    activation that is zero everywhere gives a map of zeros with zero gradient.
    Source: funcs.py ``at`` of the released code; Zagoruyko & Komodakis (2017), F_sum^2 up to a constant.
    """
    if activation.ndim != 4:
        raise MoonshineError(
            f"attention map: the activation has shape {tuple(activation.shape)}; allowed: (N, C, H, W)"
        )
    with torch.autocast(activation.device.type, enabled=False):
        return F.normalize(_full_precision(activation).square().mean(dim=1).flatten(1), dim=1)


def attention_transfer(
    student: Sequence[Tensor], teacher: Sequence[Tensor], *, form: str, beta: float
) -> Tensor:
    """Weighted attention-transfer loss between paired activations, ``beta * L_form``: a scalar.

    ``student`` and ``teacher`` hold one (N, C, H, W) activation per tap, in the same order; channels may
    differ, N, H and W may not. With f = ``attention_map``, n maps and
    ``d_i = f(A_i^student) - f(A_i^teacher)`` of H_i x W_i pixels:

    * ``released``: ``3/n * sum_i mean_{sample, pixel} d_i^2``, as the released code computes it. At the same
      beta it weakens as maps grow (64 times from 32x32 to 256x256) and strengthens as they shrink.
    * ``paper``: ``sum_i mean_sample ||d_i||_2``, the un-squared norm of the published equation. Its factor is
      taken as beta, not the beta/2 of Zagoruyko & Komodakis (2017, eq. 2), so that beta multiplies the sum in
      every form: halve a beta of theirs. There is no 3/n, which is the released code's alone.
    * ``resolution-free``: ``released * H_1 * W_1 / 1024``, H_1 x W_1 being the first map: beta means at every
      input size what it means on 32x32, where the two forms are equal.

    Raises MoonshineError for an unknown form, no maps, and maps that do not pair.
    """
    _check_form("at.form", form, AT_FORMS)
    _check_pairs(student, teacher)
    with torch.autocast(student[0].device.type, enabled=False):
        return beta * AT_FORMS[form](student, [activation.detach() for activation in teacher])


def _at_released(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    differences = _differences(student, teacher)
    return PAPER_MAPS / len(differences) * torch.stack([d.square().mean() for d in differences]).sum()


def _at_paper(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    differences = _differences(student, teacher)
    return torch.stack([torch.linalg.vector_norm(d, dim=1).mean() for d in differences]).sum()


def _at_resolution_free(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    height, width = student[0].shape[2:]
    return _at_released(student, teacher) * (height * width / REFERENCE_PIXELS)


AT_FORMS: dict[str, Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]] = {
    "released": _at_released,
    "paper": _at_paper,
    "resolution-free": _at_resolution_free,
}
"""Form -> loss of paired (N, C, H, W) activations before beta; see ``attention_transfer``."""


def _differences(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[Tensor]:
    return [attention_map(s) - attention_map(t) for s, t in zip(student, teacher, strict=True)]


def _full_precision(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _check_form(key: str, form: str, allowed: Collection[str]) -> None:
    if form not in allowed:
        raise MoonshineError(f"{key}: {form!r} is unknown; allowed: {', '.join(allowed)}")


def _check_pairs(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
    if len(student) != len(teacher) or not student:
        raise MoonshineError(
            f"at: {len(student)} maps of the student and {len(teacher)} of the teacher; "
            "allowed: the same number, at least 1"
        )
    for index, (s, t) in enumerate(zip(student, teacher, strict=True)):
        if s.ndim != 4 or t.ndim != 4 or s.shape[0] != t.shape[0] or s.shape[2:] != t.shape[2:]:
            raise MoonshineError(
                f"at: map {index} is {tuple(s.shape)} in the student and {tuple(t.shape)} in the teacher; "
                "allowed: (N, C, H, W) with the same N, H and W"
            )
