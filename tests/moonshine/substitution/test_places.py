"""What a block puts at a place: widths and strides by formula, and the reason where it does not fit."""

from __future__ import annotations

import pytest
from torch import nn

from moonshine.blocks.kinds import Conv, convolutions, parse
from moonshine.blocks.residual import make_block
from moonshine.errors import MoonshineError
from moonshine.substitution.places import Place, convolutions_of, find_place, plan
from tests.moonshine.odd_networks import Net, spatial

PAIR = make_block("S", 8, 16, 2)


def lone(conv: nn.Conv2d, block: str) -> tuple[tuple[Conv, ...], ...]:
    return plan(Net(conv), Place("body.0", ("body.0",)), parse(block))


def pair(block: str) -> tuple[tuple[Conv, ...], ...]:
    place = Place("body.0", ("body.0.branch.conv1", "body.0.branch.conv2"))
    return plan(Net(PAIR), place, parse(block))


def test_a_place_is_found_where_a_convolution_or_a_residual_block_is() -> None:
    network = Net(spatial(), make_block("S", 8, 8))
    assert find_place("body.0", network.body[0]) == Place("body.0", ("body.0",))
    found = find_place("body.1", network.body[1])
    assert found.convolutions == ("body.1.branch.conv1", "body.1.branch.conv2")
    assert found.norms == ("body.1.branch.norm2",)
    assert convolutions_of(network, found)[1] is network.get_submodule("body.1.branch.conv2")


@pytest.mark.parametrize(
    "found",
    [nn.ReLU(), nn.Conv2d(8, 8, 1), spatial(groups=8), nn.ConvTranspose2d(8, 8, 3), nn.Sequential(spatial())],
)
def test_no_place(found: nn.Module) -> None:
    with pytest.raises(
        MoonshineError, match=rf"here is a {type(found).__name__}; allowed: .* residual block"
    ):
        find_place("here", found)


@pytest.mark.parametrize("block", ["G(4)", "G(N/2)", "G(N)", "B(2)", "BG(2,4)", "BG(4,M)"])
def test_a_pair_gets_what_our_own_residual_block_has(block: str) -> None:
    assert pair(block) == convolutions(block, 8, 16, 2)


def test_a_lone_convolution_gets_half_of_a_block_for_two() -> None:
    assert lone(spatial(8, 12, stride=2), "G(4)") == ((Conv(8, 8, 3, 2, 4), Conv(8, 12)),)
    assert lone(spatial(8, 12, stride=2), "S") == ((Conv(8, 12, 3, 2),),)


def test_a_lone_convolution_gets_a_bottleneck_of_its_output_width() -> None:
    expected = ((Conv(8, 6), Conv(6, 6, 3, 2, 3), Conv(6, 12)),)
    assert lone(spatial(8, 12, stride=2), "BG(2,M/2)") == expected


def test_only_widths_that_a_block_uses_have_to_divide() -> None:
    # The half that is put has groups over the 8 inputs only, and a bottleneck of the 12 outputs only.
    assert lone(spatial(8, 12), "G(8)")[0][0].groups == 8
    assert lone(spatial(8, 3), "G(N/8)") == ((Conv(8, 8, 3, 1, 1), Conv(8, 3)),)
    assert lone(spatial(7, 12), "B(3)")[0][0] == Conv(7, 4)


@pytest.mark.parametrize(
    ("conv", "block", "said"),
    [
        (
            spatial(8, 12),
            "G(3)",
            r"block G\(3\) does not fit body\.0: 3 groups do not divide N = 8 .* 1, 2, 4, 8",
        ),
        (spatial(8, 12), "B(5)", "a bottleneck of 5 does not divide N = 12 output channels"),
        (spatial(8, 12), "BG(2,4)", "4 groups do not divide M = 6"),
        (
            spatial(stride=(2, 1)),
            "G(4)",
            r"block G\(4\) does not fit body\.0: its stride is 2x1; allowed: the same",
        ),
    ],
)
def test_a_block_that_does_not_fit(conv: nn.Conv2d, block: str, said: str) -> None:
    with pytest.raises(MoonshineError, match=said):
        lone(conv, block)


def test_a_pair_has_to_fit_at_both_widths() -> None:
    network = Net(make_block("S", 8, 12))
    place = Place("body.0", ("body.0.branch.conv1", "body.0.branch.conv2"))
    with pytest.raises(MoonshineError, match="8 groups do not divide N = 12"):
        plan(network, place, parse("G(8)"))
