"""Generated weights: what they compute, and that what is fixed is the same everywhere and in no file."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from moonshine.blocks.expressions import Conv, Generator
from moonshine.blocks.families.constants import cosines, hadamard, permutation, random_bits
from moonshine.blocks.families.tied import Binary, Equivariant, Hashed, Predicted, Ring, relative, transformed
from moonshine.blocks.families.transforms import CosineDiagonals, Fastfood
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.layers import GeneratedConv
from tests.messages import names
from tests.moonshine.blocks.examples import lone


def generated(weight: Generator, inputs: int = 16, outputs: int = 16, kernel: int = 1) -> GeneratedConv:
    torch.manual_seed(0)
    padding = (kernel // 2, kernel // 2)
    return GeneratedConv(Conv(inputs, outputs, (kernel, kernel), padding=padding, weight=weight), bias=False)


def test_random_bits_are_those_of_splitmix64() -> None:
    """The published first outputs for a seed of 1234567."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert random_bits(3, seed=1234567).tolist() == expected
    assert sorted(permutation(9)) == list(range(9))


def test_transforms_are_orthogonal() -> None:
    np.testing.assert_allclose(cosines(10) @ cosines(10).T, np.eye(10), atol=1e-6)
    np.testing.assert_allclose(hadamard(8, 8) @ hadamard(8, 8).T, 8 * np.eye(8))


@pytest.mark.parametrize(
    "weight", [Binary(), Hashed(Fraction(1, 4)), Ring(2), CosineDiagonals(3), Fastfood(), Predicted(1)]
)
def test_what_is_fixed_is_in_no_file(weight: Generator) -> None:
    made = generated(weight)
    assert all(name.startswith("factors.") for name in made.state_dict())
    assert list(made.buffers())


def test_a_hashed_kernel_has_the_numbers_of_its_table() -> None:
    made = generated(Hashed(Fraction(1, 10)), kernel=3)
    (table,) = made.factors
    assert len(table) == 230
    assert set(made.materialise().flatten().tolist()) == set(table.tolist())


def test_every_output_sees_near_channels() -> None:
    seen = generated(Ring(4), 16, 32).materialise()[:, :, 0, 0] != 0
    assert seen.sum(1).tolist() == [4] * 32
    assert seen[0].nonzero().flatten().tolist() == [0, 1, 14, 15]


def test_as_many_taps_as_there_are_predict_nothing() -> None:
    made = generated(Predicted(9), kernel=3)
    taps = made.factors[0].detach().sort(-1).values
    torch.testing.assert_close(
        made.materialise().detach().flatten(2).sort(-1).values, taps, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("elements", [4, 8])
def test_maps_turned_before_are_maps_turned_after(elements: int) -> None:
    made = generated(Equivariant(elements), 16, 8, kernel=3)
    x = torch.randn(1, 16, 6, 6)

    def turned(maps: torch.Tensor, u: int) -> torch.Tensor:
        planes = maps.unflatten(1, (-1, elements))[:, :, [relative(u, t) for t in range(elements)]]
        return transformed(planes.flatten(1, 2), u)

    for u in range(elements):
        torch.testing.assert_close(made(turned(x, u)), turned(made(x), u))


def test_a_stride_on_even_maps_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    made = lone("GEQ(p4)", Geometry(8, 8, stride=(2, 2)))
    made(torch.zeros(1, 8, 7, 7))
    lone("GEQ(p4)", Geometry(8, 8))(torch.zeros(1, 8, 8, 8))
    assert not caplog.messages
    for _ in range(2):
        made(torch.zeros(1, 8, 7, 8))
    (said,) = caplog.messages
    assert names(said, "GEQ", "stride of 2", "7x8", "odd")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "block", ["TT(2)", "STT(0.1)", "STUCK(0.1)", "HASH(0.01)", "ACDC(4)", "FRIED", "PRB(1,bin)"]
)
def test_few_factors_do_not_start_far_from_the_variance_of_many(block: str, seed: int) -> None:
    """In narrow layers, at the lowest ranks; the weight itself has it to rounding."""
    made = lone(block, Geometry(16, 16), seed)
    with torch.no_grad():
        assert 0.1 < made(torch.randn(8, 16, 16, 16).relu()).var().item() < 10
        (weight,) = [each for each in made.modules() if isinstance(each, GeneratedConv)]
        gain = 1 if block[0] in "SAF" else 2  # behind a linear depthwise convolution, or a ReLU
        assert weight.materialise().square().mean().item() * weight.conv.fan_in == pytest.approx(
            gain, rel=1e-3
        )


@pytest.mark.parametrize("block", ["TT(1)", "STT(0.01)", "HASH(0.003)", "HASH(0.02)"])
def test_nor_where_a_relu_without_batch_norm_follows_them(block: str) -> None:
    """As in ERFNet, where half of the first draws of HASH(0.003) are a thousand times too small, or too large."""
    found = []
    for seed in range(12):
        made = lone(block, Geometry(16, 16, factorised=True), seed)
        assert made.training
        with torch.no_grad():
            found.append(made(torch.randn(8, 16, 12, 12).relu()).var().item())
    assert 0.1 < min(found) <= max(found) < 10


def test_a_weight_is_computed_in_fp32_under_autocast() -> None:
    made = generated(CosineDiagonals(12), 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = made.materialise()
        assert made(torch.randn(1, 32, 2, 2)).dtype == torch.bfloat16
    assert torch.equal(rounded, made.materialise())


@pytest.mark.parametrize(("inputs", "outputs"), [(32, 32), (32, 16)])
def test_cosines_and_diagonals_are_near_orthogonal(inputs: int, outputs: int) -> None:
    made = generated(CosineDiagonals(12), inputs, outputs)
    made.initialise(gain=1.0)
    values = torch.linalg.svdvals(made.materialise()[:, :, 0, 0].detach())
    assert values.min() > 0.8
    assert values.max() < 1.2


def test_fastfood_stacks_what_a_power_of_two_does_not_hold() -> None:
    made = generated(Fastfood(), 3, 10)
    assert [tuple(factor.shape) for factor in made.factors] == [(3, 1, 3), (3, 1, 4), (10,)]
    assert made.materialise().shape == (10, 3, 1, 1)
