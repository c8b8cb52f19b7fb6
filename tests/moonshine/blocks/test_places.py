"""Where a kind fits and what its output's size is there, and messages for values and places that do not fit."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from moonshine import MoonshineError
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.registry import plan_block
from moonshine.structures.build import build
from tests.messages import naming
from tests.moonshine.blocks.examples import BOTH, BY_STAGE, LONE, lone

PLACES = [
    *(
        Geometry(
            16,
            outputs,
            (kernel, kernel),
            (stride, stride),
            (dilation, dilation),
            (padded * dilation * (kernel // 2),) * 2,
            bias=stride == dilation,
        )
        for kernel, stride, dilation, padded in itertools.product((3, 5), (1, 2), (1, 2), (True, False))
        for outputs in (16, 32)
    ),
    Geometry(16, 16, padding="same"),
    Geometry(16, 16, padding=(0, 1)),
    Geometry(16, 32, stride=(2, 1), padding_mode="circular"),
    Geometry(16, 16, (5, 3), padding=(2, 1)),
    Geometry(16, 32, (3, 1), padding=(1, 0)),
    Geometry(16, 16, (4, 4), padding=(1, 1)),
]


def refuses(block: str, place: Geometry) -> bool:
    """Whether a kind has no form for an odd square kernel, by its definition."""
    return {
        "D2x2": place.kernel != (3, 3),
        "SBOT(2)": place.dilation != (1, 1) or not place.keeps_resolution,
        "FIRE(4)": not place.keeps_resolution,
        "PRB(2,bin)": not place.keeps_resolution,
    }.get(block, False)


@pytest.mark.parametrize("block", LONE)
def test_a_block_gives_maps_of_the_size_that_the_convolution_gives(block: str) -> None:
    x = torch.randn(2, 16, *((12, 10) if "SBOT" in block else (13, 10)))
    for place in PLACES:
        square = (
            place.kernel in ((3, 3), (5, 5))
            and isinstance(place.padding, tuple)
            and place.stride[0] == place.stride[1]
        )
        try:
            plan_block(block, (place,))
        except MoonshineError as error:
            assert "allowed: " in str(error), place  # noqa: PT017
            assert refuses(block, place) or not square, place
            continue
        assert not refuses(block, place), place
        made = lone(block, place)
        with torch.no_grad():
            assert made(x).shape == lone("S", place)(x).shape
        biases = [
            held.numel()
            for layer in made.modules()
            if (held := getattr(layer, "bias", None)) is not None and not isinstance(layer, nn.BatchNorm2d)
        ]
        own = 2 if block == "NB1D" else place.bias
        assert sum(biases) == own * place.out_channels


@pytest.mark.parametrize("block", [*BOTH, *BY_STAGE])
def test_what_needs_a_residual_block_or_a_stage_says_what_to_use_elsewhere(block: str) -> None:
    instead = {"MOB": "G(g)", "SHUF": "LSHUF(g)", "SEPN": "PRB(g)", "ROOT": "G(g)"}
    with pytest.raises(
        MoonshineError, match=naming(block, "here", instead.get(block.partition("(")[0], "BG(b,g)"))
    ):
        plan_block(block, (Geometry(16, 16),), "here")


def test_groups_that_do_not_halve() -> None:
    with pytest.raises(MoonshineError, match=naming("ROOT(6)", "stage1.0", "6 groups", "4 or 8")):
        build("wrn-10-1", "ROOT(6)")


@pytest.mark.parametrize(
    ("block", "place", "said"),
    [
        ("D2x2", Geometry(8, 8, (5, 5), padding=(2, 2)), ["5x5", "3x3"]),
        ("LRE(2)", Geometry(8, 8, (3, 1), padding=(1, 0)), ["kernel", "3x1", "2x2", "larger"]),
        ("LRE(3)", Geometry(8, 8), ["bottleneck of 3", "N = 8", "1", "2", "4", "8"]),
        ("FIRE(1)", Geometry(8, 9), ["N = 9", "even"]),
        ("FIRE(2)", Geometry(8, 8, padding=(0, 0)), ["3x3", "padding", "odd"]),
        ("SHUF(8,4)", Geometry(16, 16), ["8 groups", "in = 16", "M = 4", "N = 16", "1", "2", "4"]),
        ("TT(4)", Geometry(8, 37), ["37 channels", "36"]),
        ("TT(4)", Geometry(8, 8, padding_mode="reflect"), ["padding", "reflect", "zeros"]),
        ("LRE1(1,shared)", Geometry(8, 8, padding_mode="reflect"), ["padding", "reflect", "zeros"]),
        ("NAS", Geometry(8, 8, (4, 4)), ["4x4", "odd"]),
        ("DIL(2)", Geometry(8, 8, (4, 4)), ["4x4", "odd"]),
        ("MOB(1/3)", Geometry(8, 8), ["a = 1/3", "N = 8", "1/4", "3/8"]),
        ("SBOT(6)", Geometry(8, 8, stride=(2, 2)), ["6", "stride of 2", "2", "4", "8"]),
        ("SBOT(3)", Geometry(8, 8, stride=(2, 2)), ["3", "stride of 2", "2", "4", "8"]),
        ("SBOT(2)", Geometry(8, 8, stride=(2, 1)), ["stride of 2x1", "as many"]),
        ("SBOT(2)", Geometry(8, 8, padding=(2, 2), dilation=(2, 2)), ["dilation", "(2, 2)", "1"]),
        ("LSHUF(4)", Geometry(8, 8), ["4 groups", "M = 2", "1, 2"]),
        ("PRB(3)", Geometry(8, 8), ["3 groups", "in = 8", "1, 2, 4, 8"]),
        ("TLR(0.5)", Geometry(8, 12), ["8 channels", "N = 12", "16"]),
        ("SLR(0.1)", Geometry(8, 8), ["p = 1/10 of 8", "1/8"]),
        ("HASH(0.001)", Geometry(8, 8), ["p = 1/1000 of 576", "1/576"]),
        ("TOPO(3)", Geometry(8, 8), ["3", "8 channels", "1, 2, 4, 8"]),
        ("PRED(10)", Geometry(8, 8), ["3x3", "10 taps", "1 to 9"]),
        ("GEQ(p4)", Geometry(8, 6), ["6 channels", "multiples of 4"]),
        ("GEQ(p4m)", Geometry(8, 8, (4, 4)), ["4x4", "odd"]),
        ("ACDC(2)", Geometry(8, 12), ["8", "12", "1, 2, 3, 4, 6, 12"]),
    ],
)
def test_a_place_that_a_kind_does_not_support(block: str, place: Geometry, said: list[object]) -> None:
    """With a second such convolution behind it, for the kinds that replace two."""
    places = (place, place) if block.startswith(("MOB", "SHUF")) else (place,)
    with pytest.raises(MoonshineError, match=naming(block, "here", *said)):
        plan_block(block, places, "here")


@pytest.mark.parametrize("block", ["TT(0)", "LRE(0)", "FIRE(0)", "SHUF(0,4)", "LR(0)", "SIC(0)", "PRED(0)"])
def test_a_rank_of_0(block: str) -> None:
    with pytest.raises(MoonshineError, match=naming("'0'", "whole number from 1")):
        plan_block(block, (Geometry(8, 8),))


@pytest.mark.parametrize("block", ["SLR(1.5)", "SLR(0)", "STT(3/2)", "HASH(2)"])
def test_a_fraction_outside_0_to_1(block: str) -> None:
    with pytest.raises(MoonshineError, match=naming(f"{block[block.index('(') + 1 : -1]}", "up to 1")):
        plan_block(block, (Geometry(8, 8),))


def test_a_spatial_bottleneck_takes_maps_that_it_divides() -> None:
    with pytest.raises(MoonshineError, match=naming("SBOT", "4x4", "6x8", "multiples", "factor of 2")):
        lone("SBOT(4)", Geometry(8, 8))(torch.zeros(1, 8, 6, 8))
