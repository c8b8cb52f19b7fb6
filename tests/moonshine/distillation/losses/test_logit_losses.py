"""Losses on logits: each equation in numpy, sample by sample, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from moonshine.distillation.losses.dist import relations
from moonshine.distillation.losses.dkd import decoupled
from moonshine.distillation.losses.kd import knowledge_distillation
from moonshine.distillation.losses.logits import logit_regression
from moonshine.errors import MoonshineError
from tests.messages import naming

Array = NDArray[np.float64]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

LOSSES: dict[str, Loss] = {
    "logits": logit_regression,
    "dkd": partial(decoupled, temperature=3.0, alpha=1.5, beta=8.0),
    "dist": partial(relations, temperature=2.0, beta=1.0, gamma=0.5),
    "standardised kd": partial(
        knowledge_distillation, form="textbook", temperature=2.0, alpha=0.9, standardise=True
    ),
}
losses = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def inputs(classes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    student, teacher = torch.randn(2, 6, classes, generator=generator, dtype=torch.float64)
    return 2 * student, 4 * teacher, torch.arange(6) % classes


def softmax(scores: Array) -> Array:
    return np.exp(scores) / np.exp(scores).sum()


def divergence(p: Array, q: Array) -> float:
    return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True)))


def numpy_logits(student: Array, teacher: Array, labels: Array) -> float:
    return float(np.mean([np.linalg.norm(s - t) ** 2 / 2 for s, t in zip(student, teacher, strict=True)]))


def numpy_dkd(student: Array, teacher: Array, labels: Array) -> float:
    total = []
    for s, t, label in zip(student / 3, teacher / 3, labels, strict=True):
        p, q = softmax(t), softmax(s)
        binary = divergence(np.array([p[label], 1 - p[label]]), np.array([q[label], 1 - q[label]]))
        others = divergence(softmax(np.delete(t, label)), softmax(np.delete(s, label)))
        total.append(1.5 * binary + 8 * others)
    return 9 * float(np.mean(total))


def numpy_dist(student: Array, teacher: Array, labels: Array) -> float:
    p, q = (np.array([softmax(row / 2) for row in each]) for each in (teacher, student))
    by_sample = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    by_class = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return 4 * float(by_sample + 0.5 * by_class)


def numpy_standardised(student: Array, teacher: Array, labels: Array) -> float:
    def score(row: Array) -> Array:
        return softmax((row - np.mean(row)) / np.std(row) / 2)

    return (
        0.9
        * 4
        * float(np.mean([divergence(score(t), score(s)) for s, t in zip(student, teacher, strict=True)]))
    )


EXPECTED: dict[str, Callable[[Array, Array, Array], float]] = {
    "logits": numpy_logits, "dkd": numpy_dkd, "dist": numpy_dist,
    "standardised kd": numpy_standardised,
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [3, 5])
def test_each_loss_equals_its_equation(name: str, classes: int) -> None:
    given = inputs(classes)
    expected = EXPECTED[name](*(each.numpy() for each in given))
    assert LOSSES[name](*given).item() == pytest.approx(expected, rel=1e-12)


@losses
def test_the_gradient_reaches_the_student_only_and_is_right(loss: Loss) -> None:
    student, teacher, labels = inputs()
    student.requires_grad_()
    teacher.requires_grad_()
    loss(student, teacher, labels).backward()
    assert student.grad is not None
    assert student.grad.any()
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda given: loss(given, teacher, labels), student)


@losses
def test_a_student_with_the_teachers_logits_pays_nothing(loss: Loss) -> None:
    _, teacher, labels = inputs()
    student = teacher.clone().requires_grad_()
    value = loss(student, teacher, labels)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-12


@losses
def test_it_is_computed_in_fp32_under_autocast(loss: Loss) -> None:
    student, teacher, labels = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        cast = loss(student.bfloat16(), teacher.bfloat16(), labels)
    assert cast.dtype == torch.float32
    assert cast.item() == loss(student.bfloat16().float(), teacher.bfloat16().float(), labels).item()


@losses
def test_pixels_are_samples_where_they_have_a_label(loss: Loss) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 5, 3, 4, dtype=torch.float64)
    labels = torch.randint(5, (2, 3, 4))
    labels[0, 1] = -100
    ours, theirs = (logits.permute(0, 2, 3, 1)[labels >= 0] for logits in (student, teacher))
    torch.testing.assert_close(loss(student, teacher, labels), loss(ours, theirs, labels[labels >= 0]))
    student.requires_grad_()
    nothing = loss(student, teacher, torch.full_like(labels, -100))
    nothing.backward()
    assert nothing.isfinite()
    assert student.grad is not None
    assert not student.grad.any()


@losses
@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e4])
def test_extreme_logits_have_finite_gradients(loss: Loss, scale: float) -> None:
    """Equal logits, as at the start of a network whose head begins at zero, and those that are sure of a class."""
    student, teacher, labels = (each.float() if each.is_floating_point() else each for each in inputs())
    for logits, other in (
        (scale * student, teacher),
        (student, scale * teacher),
        (scale * student, scale * teacher),
    ):
        given = logits.clone().requires_grad_()
        value = loss(given, other, labels)
        value.backward()
        assert value.isfinite()
        assert given.grad is not None
        assert given.grad.abs().max() < 1e5


@losses
def test_one_sample_is_enough(loss: Loss) -> None:
    student, teacher, labels = (each[:1] for each in inputs())
    student.requires_grad_()
    loss(student, teacher, labels).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@losses
def test_logits_and_labels_that_do_not_pair(loss: Loss) -> None:
    student, teacher, labels = inputs()
    with pytest.raises(MoonshineError, match=naming("(6, 5)", "(6, 4)")):
        loss(student, teacher[:, :4], labels)
    with pytest.raises(MoonshineError, match=naming("labels", "(5,)", "(6,)")):
        loss(student, teacher, labels[:5])


def test_dkd_is_kd_where_the_teacher_is_as_unsure_of_every_sample() -> None:
    """KD = TCKD + (1 - p_t) NCKD: with beta = 1 - p_t."""
    student, _, labels = inputs()
    teacher = torch.nn.functional.one_hot(labels, 5) * 3.0 + torch.roll(torch.eye(5)[labels], 1, 1).double()
    p = (teacher / 3).softmax(1)[torch.arange(6), labels]
    found = decoupled(student, teacher, labels, temperature=3.0, alpha=1.0, beta=1 - p[0].item())
    expected = knowledge_distillation(student, teacher, labels, form="textbook", temperature=3.0, alpha=1.0)
    torch.testing.assert_close(found, expected)


def test_dkd_of_two_classes_has_no_others_to_compare() -> None:
    student, teacher, labels = inputs(2)
    heavy, light = (
        decoupled(student, teacher, labels, temperature=3.0, alpha=1.0, beta=beta).item()
        for beta in (0.0, 8.0)
    )
    assert heavy == light > 0


def test_dkd_of_one_class_is_refused() -> None:
    with pytest.raises(MoonshineError, match=naming("dkd", "1 class", "at least 2")):
        decoupled(*inputs(1), temperature=3.0, alpha=1.0, beta=8.0)


def test_dist_ignores_scale_and_shift_of_probabilities_and_calls_a_constant_unrelated() -> None:
    p = torch.tensor([[3, 2, 1], [1, 2, 3]], dtype=torch.float64) / 6
    labels = torch.tensor([0, 2])
    settings = {"temperature": 1.0, "beta": 1.0, "gamma": 0.0}
    assert relations((0.7 * p + 0.1).log(), p.log(), labels, **settings).item() == pytest.approx(0, abs=1e-12)
    assert relations(p.flip(1).log(), p.log(), labels, **settings).item() == pytest.approx(2)
    assert relations(torch.zeros(2, 3), p.log(), labels, **settings).item() == 1
