"""Knowledge distillation: the equation of each form, in numpy and by hand, and what its gradient reaches."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from moonshine.config.methods import KD
from moonshine.distillation.losses.kd import KD_FORMS, knowledge_distillation
from moonshine.errors import MoonshineError
from tests.messages import naming

seeds = st.integers(0, 2**31 - 1)
kd_forms = pytest.mark.parametrize("form", sorted(KD_FORMS))


def logits_and_labels(seed: int, classes: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 6, classes, generator=generator, dtype=torch.float64)
    return 3 * student, 5 * teacher, torch.arange(6) % classes


def numpy_knowledge_distillation(
    student: Tensor, teacher: Tensor, form: str, temperature: float, alpha: float
) -> float:
    def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(scores) / np.exp(scores).sum()

    divergences = []
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        p, q = softmax(t / temperature), softmax(s / temperature)
        divergences.append((p * np.log(p / q)).sum())
    kd = float(np.mean(divergences)) * temperature**2 * alpha
    if form == "released":
        kd *= 2 / student.shape[1]
    if form == "unscaled":
        kd /= temperature**2
    return kd


@kd_forms
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("classes", [3, 10])
def test_knowledge_distillation_equals_the_equation(
    form: str, temperature: float, alpha: float, classes: int
) -> None:
    student, teacher, labels = logits_and_labels(3, classes)
    options = {"form": form, "temperature": temperature, "alpha": alpha}
    expected = numpy_knowledge_distillation(student, teacher, form, temperature, alpha)
    loss = knowledge_distillation(student, teacher, labels, **options)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("form", "expected"),
    # q = 1/4 each, p = (0.7, 0.1, 0.1, 0.1): KL = 0.7 ln 2.8 + 0.3 ln 0.4; alpha T^2 = 1; 2/K = 1/2.
    [("textbook", 0.44584637), ("released", 0.22292318), ("unscaled", 0.44584637 / 4)],
)
def test_knowledge_distillation_by_hand(form: str, expected: float) -> None:
    teacher = torch.tensor([[1.0, 0.0, 0.0, 0.0]]) * 2 * np.log(7.0)
    loss = knowledge_distillation(
        torch.zeros(1, 4), teacher, torch.tensor([1]), form=form, temperature=2.0, alpha=0.25
    )
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_released_kd_is_weaker_by_half_the_number_of_classes() -> None:
    student, teacher, labels = logits_and_labels(4)
    textbook, released = (
        knowledge_distillation(student, teacher, labels, form=form, temperature=4.0, alpha=0.9).item()
        for form in ("textbook", "released")
    )
    assert textbook == pytest.approx(5 * released, rel=1e-12)


@kd_forms
@given(seed=seeds, shift=st.floats(-50, 50))
def test_kd_of_equal_distributions_is_zero(form: str, seed: int, shift: float) -> None:
    student, _, labels = logits_and_labels(seed)
    loss = knowledge_distillation(student, student + shift, labels, form=form, temperature=4.0, alpha=0.9)
    assert loss.item() == pytest.approx(0, abs=1e-12)


@kd_forms
def test_kd_gradient_reaches_the_student_only(form: str) -> None:
    student, teacher, labels = logits_and_labels(7)
    student.requires_grad_()
    teacher.requires_grad_()
    knowledge_distillation(student, teacher, labels, form=form, temperature=4.0, alpha=0.9).backward()
    assert student.grad is not None
    assert student.grad.any()
    assert teacher.grad is None


@kd_forms
def test_kd_is_fp32_under_autocast(form: str) -> None:
    student, teacher, labels = logits_and_labels(11)
    inputs = (student.bfloat16(), teacher.bfloat16(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        cast = knowledge_distillation(*inputs, form=form, temperature=4.0, alpha=0.9)
    plain = knowledge_distillation(
        inputs[0].float(), inputs[1].float(), labels, form=form, temperature=4.0, alpha=0.9
    )
    assert cast.dtype == torch.float32
    assert cast.item() == plain.item()


def test_logits_and_labels_that_do_not_pair() -> None:
    student, teacher, labels = logits_and_labels(1)
    options = {"form": "textbook", "temperature": 4.0, "alpha": 0.9}
    with pytest.raises(MoonshineError, match=naming("(6, 10)", "(6, 9)")):
        knowledge_distillation(student, teacher[:, :9], labels, **options)  # type: ignore[arg-type]
    with pytest.raises(MoonshineError, match=naming("labels", "(5,)", "(6,)")):
        knowledge_distillation(student, teacher, labels[:5], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["textbook", "released"])
def test_kd_of_pixels_is_kd_of_those_that_have_a_label(form: str) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 5, 3, 4)
    labels = torch.randint(5, (2, 3, 4))
    labels[0, 1] = -100
    ours, theirs = (logits.permute(0, 2, 3, 1)[labels >= 0] for logits in (student, teacher))
    settings = {"form": form, "temperature": 4.0, "alpha": 0.9}
    expected = knowledge_distillation(ours, theirs, labels[labels >= 0], **settings)  # type: ignore[arg-type]
    found = knowledge_distillation(student, teacher, labels, **settings)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected)


def test_the_schema_offers_every_form() -> None:
    assert get_args(KD.model_fields["form"].annotation) == tuple(KD_FORMS)
