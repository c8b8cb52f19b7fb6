"""Attention transfer: the equation of each form, in numpy and by hand, and what its gradient reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from moonshine.config.methods import AT
from moonshine.distillation.losses.at import AT_FORMS, attention_transfer
from moonshine.distillation.outputs import MAP_KINDS, attention_map
from moonshine.errors import MoonshineError
from tests.messages import naming

Array = NDArray[np.float64]
SHAPES = ((4, 8, 32, 32), (4, 16, 16, 16), (4, 32, 8, 8))

seeds = st.integers(0, 2**31 - 1)
at_forms = pytest.mark.parametrize("form", sorted(AT_FORMS))


def activations(
    seed: int, shapes: Sequence[tuple[int, ...]] = SHAPES, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


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


def transfer(student: Sequence[Tensor], teacher: Sequence[Tensor], form: str, beta: float) -> Tensor:
    """The loss of paired activations."""
    maps = ([attention_map(activation) for activation in each] for each in (student, teacher))
    return attention_transfer(*maps, form=form, beta=beta)


@at_forms
@pytest.mark.parametrize("maps", [1, 2, 3, 4])
@pytest.mark.parametrize("pixels", [(32, 32), (16, 16), (7, 5)])
def test_attention_transfer_equals_the_equation(form: str, maps: int, pixels: tuple[int, int]) -> None:
    student = activations(1, [(3, 4 + i, *pixels) for i in range(maps)])
    teacher = activations(2, [(3, 9 - i, *pixels) for i in range(maps)])
    expected = numpy_attention_transfer(student, teacher, form, 750.0)
    loss = transfer(student, teacher, form=form, beta=750.0)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("form", "expected"),
    # Maps (1,0,0,0) and (0.6,0.8,0,0): squared difference 0.16 + 0.64 = 0.8 over the 2x2 pixels of one map.
    [("released", 0.6), ("paper", 0.8**0.5), ("resolution-free", 0.6 * 4 / 1024)],
)
def test_attention_transfer_by_hand(form: str, expected: float) -> None:
    student = torch.tensor([[[[5.0, 0.0], [0.0, 0.0]]]])
    teacher = torch.tensor([[[[3.0, 2 * 3**0.5], [0.0, 0.0]]]])
    loss = transfer([student], [teacher], form=form, beta=1.0)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 16, 64, 64), (130, 3, 7, 5), (1, 70, 50, 50), (0, 4, 3, 3)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_energies_have_the_bits_of_the_mean_of_squares(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    one, other = (made.contiguous(memory_format=layout).clone().requires_grad_() for _ in range(2))
    values = one.to(torch.promote_types(dtype, torch.float32))
    plain = functional.normalize(values.square().mean(1).flatten(1), dim=1).view(shape[0], *shape[2:])
    ours = attention_map(other)
    pull = torch.randn(plain.shape, generator=torch.Generator().manual_seed(1)).to(plain.dtype)
    plain.backward(pull)
    ours.backward(pull)
    assert torch.equal(ours, plain)
    assert one.grad is not None
    assert other.grad is not None
    assert torch.equal(other.grad, one.grad)


@given(seeds)
def test_attention_maps_are_unit_vectors(seed: int) -> None:
    maps = attention_map(activations(seed)[1])
    assert maps.shape == (4, 16, 16)
    torch.testing.assert_close(maps.flatten(1).norm(dim=1), torch.ones(4, dtype=torch.float64))


@given(seeds, st.floats(1e-3, 1e3))
def test_maps_ignore_scale(seed: int, scale: float) -> None:
    activation = activations(seed)[2]
    torch.testing.assert_close(attention_map(-scale * activation), attention_map(activation))


@at_forms
@given(seed=seeds)
def test_equal_activations_cost_nothing_and_pull_nowhere(form: str, seed: int) -> None:
    student = [a.requires_grad_() for a in activations(seed)]
    loss = transfer(student, activations(seed), form=form, beta=1000.0)
    loss.backward()
    assert loss.item() == 0
    assert not any(gradient(a).any() for a in student)


@given(seeds)
def test_released_is_resolution_free_at_32x32_only(seed: int) -> None:
    def losses(shapes: Sequence[tuple[int, ...]]) -> list[float]:
        student, teacher = activations(seed, shapes), activations(seed + 1, shapes)
        return [
            transfer(student, teacher, form=form, beta=1.0).item() for form in ("released", "resolution-free")
        ]

    released, free = losses(SHAPES)
    assert released == free
    released, free = losses([(4, 8, 16, 16), (4, 8, 8, 8)])
    assert released == pytest.approx(4 * free)


@at_forms
def test_at_gradient_reaches_the_student_only_and_is_right(form: str) -> None:
    shapes = [(2, 3, 4, 4), (2, 2, 2, 3)]
    student = [a.requires_grad_() for a in activations(5, shapes)]
    teacher = [a.requires_grad_() for a in activations(6, shapes)]
    transfer(student, teacher, form=form, beta=10.0).backward()
    assert all(gradient(a).any() for a in student)
    assert all(a.grad is None for a in teacher)
    assert torch.autograd.gradcheck(
        lambda *inputs: transfer(inputs, teacher, form=form, beta=10.0), tuple(student)
    )


@at_forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dead_activations_stay_finite(form: str, dtype: torch.dtype) -> None:
    alive = activations(8, [(2, 3, 4, 4)] * 2, dtype)
    for student, teacher in ((torch.zeros_like(alive[0]), alive[1]), (alive[0], torch.zeros_like(alive[1]))):
        student = student.clone().requires_grad_()
        loss = transfer([student], [teacher], form=form, beta=1000.0)
        loss.backward()
        assert 0 < loss.item() < float("inf")
        assert torch.isfinite(gradient(student)).all()
    both = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = transfer([both], [torch.zeros(2, 3, 4, 4)], form=form, beta=1000.0)
    loss.backward()
    assert loss.item() == 0
    assert not gradient(both).any()


@at_forms
def test_at_is_fp32_under_autocast(form: str) -> None:
    student, teacher = activations(9, dtype=torch.float32), activations(10, dtype=torch.float32)
    plain = transfer(student, teacher, form=form, beta=1000.0)
    with torch.autocast("cpu", torch.bfloat16):
        cast = transfer(student, teacher, form=form, beta=1000.0)
    assert cast.dtype == torch.float32
    assert cast.item() == plain.item()
    half = [a.bfloat16() for a in student]
    from_half = transfer(half, teacher, form=form, beta=1000.0)
    expected = transfer([a.float() for a in half], teacher, form=form, beta=1000.0)
    assert from_half.dtype == torch.float32
    assert from_half.item() == expected.item()


@pytest.mark.parametrize("kind", MAP_KINDS)
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 4.0])
def test_a_map_of_each_kind_equals_the_equation(kind: str, p: float) -> None:
    (activation,) = activations(3, [(2, 3, 4, 5)])
    reduce: Any = {"mean": np.mean, "sum": np.sum, "max": np.max}[kind]
    for sample, found in zip(activation.numpy(), attention_map(activation, kind, p).numpy(), strict=True):
        energy = reduce(np.abs(sample) ** p, axis=0)
        np.testing.assert_allclose(found, energy / np.sqrt((energy**2).sum()), rtol=1e-12)
    activation.requires_grad_()
    assert torch.autograd.gradcheck(lambda given: attention_map(given, kind, p), activation)


@pytest.mark.parametrize("kind", MAP_KINDS)
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 8.0])
def test_maps_behind_a_relu_have_finite_gradients(kind: str, p: float) -> None:
    """Where all channels of a pixel are 0, or share the maximum; and where nothing is left at all."""
    activation = torch.tensor([[[[3.0, 0.0], [1.0, 0.0]], [[3.0, 0.0], [0.0, 2.0]]], [[[0.0] * 2] * 2] * 2])
    activation.requires_grad_()
    attention_map(activation, kind, p)[0, 1].sum().backward()
    found = gradient(activation)
    assert found.isfinite().all()
    assert not found[1].any()
    assert not found[0, :, 0, 1].any()
    assert found[0, 0, 0, 0] == found[0, 1, 0, 0] != 0


def test_the_usual_map_has_the_same_bits_however_it_is_named() -> None:
    (activation,) = activations(4, [(2, 3, 4, 5)], torch.float32)
    expected = torch.nn.functional.normalize(activation.square().mean(1).flatten(1), dim=1).view(2, 4, 5)
    assert torch.equal(attention_map(activation), expected)
    assert torch.equal(attention_map(activation, "mean", 2), expected)


def test_the_schema_offers_every_form_and_map() -> None:
    assert get_args(AT.model_fields["form"].annotation) == tuple(AT_FORMS)
    assert get_args(AT.model_fields["map"].annotation) == tuple(MAP_KINDS)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (
            [(2, 3, 8, 8), (2, 3, 4, 4)],
            [(2, 5, 8, 8), (2, 5, 2, 4)],
            ["map 1", "(2, 4, 4)", "(2, 2, 4)"],
        ),
        ([(2, 3, 8, 8)], [(1, 3, 8, 8)], ["map 0", "(2, 8, 8)", "(1, 8, 8)"]),
        ([(2, 3, 8, 8)], [(2, 3, 8, 8)] * 2, ["1 maps", "2"]),
        ([], [], ["0 maps", "0"]),
    ],
)
def test_maps_that_do_not_pair(
    student: list[tuple[int, ...]], teacher: list[tuple[int, ...]], message: list[object]
) -> None:
    with pytest.raises(MoonshineError, match=naming(*message)):
        transfer(activations(1, student), activations(2, teacher), form="released", beta=1.0)


def test_a_map_of_no_image_is_refused() -> None:
    with pytest.raises(MoonshineError, match=r"\(4, 10\)"):
        attention_map(torch.zeros(4, 10))
