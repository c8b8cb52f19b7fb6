from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from moonshine.config.training import AT, KD
from moonshine.distillation.losses import (
    AT_FORMS,
    KD_FORMS,
    attention_map,
    attention_transfer,
    knowledge_distillation,
)
from moonshine.errors import MoonshineError

Array = NDArray[np.float64]
SHAPES = ((4, 8, 32, 32), (4, 16, 16, 16), (4, 32, 8, 8))

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31 - 1)
at_forms = pytest.mark.parametrize("form", sorted(AT_FORMS))
kd_forms = pytest.mark.parametrize("form", sorted(KD_FORMS))


def activations(
    seed: int, shapes: Sequence[tuple[int, ...]] = SHAPES, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def logits_and_labels(seed: int, classes: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    student, teacher = activations(seed, [(6, classes)] * 2)
    return 3 * student, 5 * teacher, torch.arange(6) % classes


def gradient(x: Tensor) -> Tensor:
    assert x.grad is not None
    return x.grad


def numpy_maps(x: Tensor) -> list[Array]:
    """One flat unit map per sample, written from the equation with loops over samples."""
    maps = []
    for sample in x.numpy().astype(np.float64):
        energy = sum(channel**2 for channel in sample) / len(sample)
        maps.append(energy.ravel() / np.sqrt((energy**2).sum()))
    return maps


def numpy_attention_transfer(student: list[Tensor], teacher: list[Tensor], form: str, beta: float) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        squared = [(p - q) ** 2 for p, q in zip(numpy_maps(s), numpy_maps(t), strict=True)]
        if form == "paper":
            total += float(np.mean([np.sqrt(d.sum()) for d in squared]))
        else:
            total += float(np.mean(squared))
    if form != "paper":
        total *= 3 / len(student)
    if form == "resolution-free":
        total *= student[0].shape[2] * student[0].shape[3] / 1024
    return beta * total


def numpy_knowledge_distillation(
    student: Tensor, teacher: Tensor, labels: Tensor, form: str, temperature: float, alpha: float
) -> dict[str, float]:
    def softmax(scores: Array) -> Array:
        return np.exp(scores) / np.exp(scores).sum()

    entropies, divergences = [], []
    for s, t, label in zip(student.numpy(), teacher.numpy(), labels.numpy(), strict=True):
        entropies.append(-np.log(softmax(s)[label]))
        p, q = softmax(t / temperature), softmax(s / temperature)
        divergences.append((p * np.log(p / q)).sum())
    kd = float(np.mean(divergences)) * temperature**2 * alpha
    if form == "released":
        kd *= 2 / student.shape[1]
    return {"ce": (1 - alpha) * float(np.mean(entropies)), "kd": kd}


@at_forms
@pytest.mark.parametrize("maps", [1, 2, 3, 4])
@pytest.mark.parametrize("pixels", [(32, 32), (16, 16), (7, 5)])
def test_attention_transfer_equals_the_equation(form: str, maps: int, pixels: tuple[int, int]) -> None:
    student = activations(1, [(3, 4 + i, *pixels) for i in range(maps)])
    teacher = activations(2, [(3, 9 - i, *pixels) for i in range(maps)])
    expected = numpy_attention_transfer(student, teacher, form, 750.0)
    loss = attention_transfer(student, teacher, form=form, beta=750.0)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@kd_forms
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("classes", [3, 10])
def test_knowledge_distillation_equals_the_equation(
    form: str, temperature: float, alpha: float, classes: int
) -> None:
    student, teacher, labels = logits_and_labels(3, classes)
    options = {"form": form, "temperature": temperature, "alpha": alpha}
    expected = numpy_knowledge_distillation(student, teacher, labels, form, temperature, alpha)
    terms = knowledge_distillation(student, teacher, labels, **options)  # type: ignore[arg-type]
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("form", "expected"),
    # Maps (1,0,0,0) and (0.6,0.8,0,0): squared difference 0.16 + 0.64 = 0.8 over the 2x2 pixels of one map.
    [("released", 0.6), ("paper", 0.8**0.5), ("resolution-free", 0.6 * 4 / 1024)],
)
def test_attention_transfer_by_hand(form: str, expected: float) -> None:
    student = torch.tensor([[[[5.0, 0.0], [0.0, 0.0]]]])
    teacher = torch.tensor([[[[3.0, 2 * 3**0.5], [0.0, 0.0]]]])
    loss = attention_transfer([student], [teacher], form=form, beta=1.0)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("form", "expected"),
    # q = 1/4 each, p = (0.7, 0.1, 0.1, 0.1): KL = 0.7 ln 2.8 + 0.3 ln 0.4; alpha T^2 = 1; 2/K = 1/2.
    [("textbook", 0.44584637), ("released", 0.22292318)],
)
def test_knowledge_distillation_by_hand(form: str, expected: float) -> None:
    teacher = torch.tensor([[1.0, 0.0, 0.0, 0.0]]) * 2 * np.log(7.0)
    terms = knowledge_distillation(
        torch.zeros(1, 4), teacher, torch.tensor([1]), form=form, temperature=2.0, alpha=0.25
    )
    assert terms["kd"].item() == pytest.approx(expected, rel=1e-6)
    assert terms["ce"].item() == pytest.approx(0.75 * 1.38629436, rel=1e-6)


def test_released_kd_is_weaker_by_half_the_number_of_classes() -> None:
    student, teacher, labels = logits_and_labels(4)
    textbook, released = (
        knowledge_distillation(student, teacher, labels, form=form, temperature=4.0, alpha=0.9)["kd"].item()
        for form in ("textbook", "released")
    )
    assert textbook == pytest.approx(5 * released, rel=1e-12)


@few
@given(seeds)
def test_attention_maps_are_unit_vectors(seed: int) -> None:
    maps = attention_map(activations(seed)[1])
    assert maps.shape == (4, 256)
    torch.testing.assert_close(maps.norm(dim=1), torch.ones(4, dtype=torch.float64))


@few
@given(seeds, st.floats(1e-3, 1e3))
def test_maps_ignore_scale(seed: int, scale: float) -> None:
    activation = activations(seed)[2]
    torch.testing.assert_close(attention_map(-scale * activation), attention_map(activation))


@at_forms
@few
@given(seed=seeds)
def test_equal_activations_cost_nothing_and_pull_nowhere(form: str, seed: int) -> None:
    student = [a.requires_grad_() for a in activations(seed)]
    loss = attention_transfer(student, activations(seed), form=form, beta=1000.0)
    loss.backward()
    assert loss.item() == 0
    assert not any(gradient(a).any() for a in student)


@few
@given(seeds)
def test_released_is_resolution_free_at_32x32_only(seed: int) -> None:
    def losses(shapes: Sequence[tuple[int, ...]]) -> list[float]:
        student, teacher = activations(seed, shapes), activations(seed + 1, shapes)
        return [
            attention_transfer(student, teacher, form=form, beta=1.0).item()
            for form in ("released", "resolution-free")
        ]

    released, free = losses(SHAPES)
    assert released == free
    released, free = losses([(4, 8, 16, 16), (4, 8, 8, 8)])
    assert released == pytest.approx(4 * free)


@kd_forms
@few
@given(seed=seeds)
def test_kd_without_distillation_is_cross_entropy(form: str, seed: int) -> None:
    student, teacher, labels = logits_and_labels(seed)
    terms = knowledge_distillation(student, teacher, labels, form=form, temperature=4.0, alpha=0.0)
    assert terms["kd"].item() == 0
    torch.testing.assert_close(sum(terms.values()), torch.nn.functional.cross_entropy(student, labels))


@kd_forms
@few
@given(seed=seeds, shift=st.floats(-50, 50))
def test_kd_of_equal_distributions_is_zero(form: str, seed: int, shift: float) -> None:
    student, _, labels = logits_and_labels(seed)
    terms = knowledge_distillation(student, student + shift, labels, form=form, temperature=4.0, alpha=0.9)
    assert terms["kd"].item() == pytest.approx(0, abs=1e-12)


@at_forms
def test_at_gradient_reaches_the_student_only_and_is_right(form: str) -> None:
    shapes = [(2, 3, 4, 4), (2, 2, 2, 3)]
    student = [a.requires_grad_() for a in activations(5, shapes)]
    teacher = [a.requires_grad_() for a in activations(6, shapes)]
    attention_transfer(student, teacher, form=form, beta=10.0).backward()
    assert all(gradient(a).any() for a in student)
    assert all(a.grad is None for a in teacher)
    assert torch.autograd.gradcheck(
        lambda *inputs: attention_transfer(inputs, teacher, form=form, beta=10.0), tuple(student)
    )


@kd_forms
def test_kd_gradient_reaches_the_student_only(form: str) -> None:
    student, teacher, labels = logits_and_labels(7)
    student.requires_grad_()
    teacher.requires_grad_()
    terms = knowledge_distillation(student, teacher, labels, form=form, temperature=4.0, alpha=0.9)
    terms["kd"].backward()
    assert gradient(student).any()
    assert teacher.grad is None


@at_forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dead_activations_stay_finite(form: str, dtype: torch.dtype) -> None:
    alive = activations(8, [(2, 3, 4, 4)] * 2, dtype)
    for student, teacher in ((torch.zeros_like(alive[0]), alive[1]), (alive[0], torch.zeros_like(alive[1]))):
        student = student.clone().requires_grad_()
        loss = attention_transfer([student], [teacher], form=form, beta=1000.0)
        loss.backward()
        assert 0 < loss.item() < float("inf")
        assert torch.isfinite(gradient(student)).all()
    both = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = attention_transfer([both], [torch.zeros(2, 3, 4, 4)], form=form, beta=1000.0)
    loss.backward()
    assert loss.item() == 0
    assert not gradient(both).any()


@at_forms
def test_at_is_fp32_under_autocast(form: str) -> None:
    student, teacher = activations(9, dtype=torch.float32), activations(10, dtype=torch.float32)
    plain = attention_transfer(student, teacher, form=form, beta=1000.0)
    with torch.autocast("cpu", torch.bfloat16):
        cast = attention_transfer(student, teacher, form=form, beta=1000.0)
    assert cast.dtype == torch.float32
    assert cast.item() == plain.item()
    half = [a.bfloat16() for a in student]
    from_half = attention_transfer(half, teacher, form=form, beta=1000.0)
    expected = attention_transfer([a.float() for a in half], teacher, form=form, beta=1000.0)
    assert from_half.dtype == torch.float32
    assert from_half.item() == expected.item()


@kd_forms
def test_kd_is_fp32_under_autocast(form: str) -> None:
    student, teacher, labels = logits_and_labels(11)
    inputs = (student.bfloat16(), teacher.bfloat16(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        cast = knowledge_distillation(*inputs, form=form, temperature=4.0, alpha=0.9)
    plain = knowledge_distillation(
        inputs[0].float(), inputs[1].float(), labels, form=form, temperature=4.0, alpha=0.9
    )
    assert {name: (t.dtype, t.item()) for name, t in cast.items()} == {
        name: (torch.float32, t.item()) for name, t in plain.items()
    }


def test_the_schema_offers_every_form() -> None:
    assert get_args(AT.model_fields["form"].annotation) == tuple(AT_FORMS)
    assert get_args(KD.model_fields["form"].annotation) == tuple(KD_FORMS)


def test_an_unknown_form_lists_the_known_ones() -> None:
    with pytest.raises(MoonshineError, match=r"at\.form: 'squared'.*released, paper, resolution-free"):
        attention_transfer(activations(1), activations(2), form="squared", beta=1.0)
    student, teacher, labels = logits_and_labels(1)
    with pytest.raises(MoonshineError, match=r"kd\.form: 'hinton'.*textbook, released"):
        knowledge_distillation(student, teacher, labels, form="hinton", temperature=4.0, alpha=0.9)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (
            [(2, 3, 8, 8), (2, 3, 4, 4)],
            [(2, 5, 8, 8), (2, 5, 2, 4)],
            r"map 1 is \(2, 3, 4, 4\).*\(2, 5, 2, 4\)",
        ),
        ([(2, 3, 8, 8)], [(1, 3, 8, 8)], r"map 0 is \(2, 3, 8, 8\).*\(1, 3, 8, 8\)"),
        ([(2, 3)], [(2, 3)], r"map 0 is \(2, 3\)"),
        ([(2, 3, 8, 8)], [(2, 3, 8, 8)] * 2, "1 maps of the student and 2 of the teacher"),
        ([], [], "0 maps of the student and 0 of the teacher"),
    ],
)
def test_maps_that_do_not_pair(
    student: list[tuple[int, ...]], teacher: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(MoonshineError, match=message):
        attention_transfer(activations(1, student), activations(2, teacher), form="released", beta=1.0)


def test_a_map_of_no_image_is_refused() -> None:
    with pytest.raises(MoonshineError, match=r"\(4, 10\)"):
        attention_map(torch.zeros(4, 10))


def test_logits_and_labels_that_do_not_pair() -> None:
    student, teacher, labels = logits_and_labels(1)
    options = {"form": "textbook", "temperature": 4.0, "alpha": 0.9}
    with pytest.raises(MoonshineError, match=r"\(6, 10\) and teacher logits \(6, 9\)"):
        knowledge_distillation(student, teacher[:, :9], labels, **options)  # type: ignore[arg-type]
    with pytest.raises(MoonshineError, match=r"labels have shape \(5,\); allowed: \(6,\)"):
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
    for term, value in expected.items():
        torch.testing.assert_close(found[term], value)
