"""What blocks put at a place: widths, strides and weights by formula, and messages for those that do not fit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moonshine import MoonshineError
from moonshine.blocks.expressions import Chain, Conv, layers
from moonshine.blocks.families.kind import Kind, divisors, group_count
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import ONCE, Parameter, WidthShare
from moonshine.blocks.registry import KINDS, parse_block, plan_block
from tests.messages import naming
from tests.moonshine.blocks.test_notation import paper
from tests.moonshine.residual_blocks import make_block


def convs(unit):
    return [layer for layer in layers(unit) if isinstance(layer, Conv)]


def residual(inputs, outputs, stride=1):
    """The convolutions of a residual block of a wide residual network."""
    return Geometry(inputs, outputs, stride=(stride, stride)), Geometry(outputs, outputs)


def test_table_1():
    """Convolution parameters of the reference notes, at a stride of 1 where the width does not change."""

    def weights(block: str, width: int) -> int:
        units = plan_block(block, residual(width, width)).units
        return sum(layer.fan_in * layer.out_channels for unit in units for layer in convs(unit))

    n, k = 64, 3
    assert weights("S", n) == 2 * n**2 * k**2
    assert weights("G(N/8)", n) == 2 * (n**2 * k**2 // 8 + n**2)
    assert weights("B(4)", n) == (n // 4) ** 2 * k**2 + 2 * n**2 // 4
    assert weights("BG(2,M/8)", n) == (n // 2) ** 2 * k**2 // (32 // 8) + 2 * n**2 // 2


def test_first_block_of_a_stage():
    """G keeps the input width until its 1x1; B narrows the output width, with the stride on its kxk."""

    def spatial(width, stride, groups):
        strides = (stride, stride)
        return Conv(width, width, (3, 3), strides, padding=(1, 1), groups=groups, joint="norm+relu")

    assert plan_block("G(N/8)", residual(32, 64, 2)).units == (
        Chain(spatial(32, 2, 4), Conv(32, 64)),
        Chain(spatial(64, 1, 8), Conv(64, 64)),
    )
    assert plan_block("BG(2,M/8)", residual(32, 64, 2)).units == (
        Chain(Conv(32, 32, joint="norm+relu"), spatial(32, 2, 4), Conv(32, 64)),
    )


def test_a_lone_convolution_gets_one_unit_of_its_own_widths():
    """Only widths that a unit uses have to divide."""

    def lone(block, inputs, outputs):
        (unit,) = plan_block(block, (Geometry(inputs, outputs, stride=(2, 2)),)).units
        return [(conv.in_channels, conv.out_channels, conv.groups, conv.stride[0]) for conv in convs(unit)]

    assert lone("S", 8, 12) == [(8, 12, 1, 2)]
    assert lone("G(8)", 8, 12) == [(8, 8, 8, 2), (8, 12, 1, 1)]
    assert lone("BG(2,M/2)", 7, 12) == [(7, 6, 1, 1), (6, 6, 3, 2), (6, 12, 1, 1)]


def test_a_spatial_convolution_is_what_the_place_has():
    place = Geometry(8, 8, (1, 5), (2, 1), (1, 2), (0, 4), "reflect")
    cheap, pointwise = convs(plan_block("G(2)", (place,)).units[0])
    assert cheap == Conv(8, 8, (1, 5), (2, 1), (1, 2), (0, 4), "reflect", 2, joint="norm+relu")
    assert pointwise == Conv(8, 8)


def test_one_unit_for_two_convolutions_has_both_strides():
    first, second = Geometry(8, 8, padding="same"), Geometry(8, 16, stride=(2, 2))
    _, cheap, _ = convs(plan_block("B(2)", (first, second)).units[0])
    assert (cheap.stride, cheap.padding) == ((2, 2), (1, 1))


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("G(3)", "3 groups do not divide N = 8 channels; allowed: 1, 2, 4, 8, N, N/2, N/4, N/8"),
        ("G(N/16)", "N/16 groups do not divide N = 8 channels; allowed: 1, 2, 4, 8, N, N/2, N/4, N/8"),
        ("B(5)", "a bottleneck of 5 does not divide N = 18 output channels; allowed: 1, 2, 3, 6, 9, 18"),
        ("BG(3,4)", "4 groups do not divide M = 6 channels; allowed: 1, 2, 3, 6, M, M/2, M/3, M/6"),
    ],
)
def test_a_block_that_does_not_fit_says_where_and_what_would(block, reason):
    with pytest.raises(MoonshineError) as caught:
        make_block(block, 8, 18, 2, path="stage2.0")
    assert str(caught.value) == f"block {block} does not fit stage2.0: {reason}"


@given(paper, st.integers(1, 48), st.integers(1, 48))
def test_a_block_fits_exactly_when_its_values_divide(block, inputs, outputs):
    def divides(value, width):
        return width % (value.divisor if isinstance(value, WidthShare) else value) == 0

    if block.kind in ("S", "G"):
        fits = all(divides(value, width) for value in block.values for width in (inputs, outputs))
    else:
        fits = divides(block.values[0], outputs)
        fits = fits and all(divides(value, outputs // block.values[0]) for value in block.values[1:])
    if not fits:
        with pytest.raises(MoonshineError, match="does not fit"):
            plan_block(block, residual(inputs, outputs, 2))
        return
    assert make_block(block, inputs, outputs, 2)(torch.zeros(2, inputs, 5, 3)).shape == (2, outputs, 3, 2)


def test_every_allowed_value_of_the_message_fits():
    with pytest.raises(MoonshineError) as caught:
        plan_block("G(7)", residual(16, 32))
    allowed = str(caught.value).partition("allowed: ")[2].split(", ")
    assert len(allowed) == 2 * len(divisors(16))
    for value in allowed:
        plan_block(f"G({value})", residual(16, 32))


def test_a_new_kind_is_one_definition(monkeypatch):
    def wide(place, g):
        groups = group_count(g, place.in_channels, "N")
        return Conv(
            place.in_channels, place.out_channels, (5, 5), place.stride, padding=(2, 2), groups=groups
        )

    monkeypatch.setitem(KINDS, "W5", Kind("W5", (Parameter("g", width="N"), ONCE), wide))
    block = parse_block("W5(N/2)")
    assert parse_block(block.slug) == block
    assert len(plan_block(block, residual(4, 8, 2)).units) == 2
    assert len(plan_block("W5(N/2,once)", residual(4, 8, 2)).units) == 1
    assert make_block(block, 4, 8, 2)(torch.ones(1, 4, 8, 8)).shape == (1, 8, 4, 4)
    with pytest.raises(MoonshineError, match=naming("W5(3)", "stage9", "3 groups", "N = 4")):
        make_block("W5(3)", 4, 8, path="stage9")
    with pytest.raises(MoonshineError, match=r"allowed: .*W5\(g\[,once\]\)"):
        parse_block("Q")
