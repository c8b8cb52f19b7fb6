"""Every kind: published and computed sizes, what it computes, where it fits, and how its weights start."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import moonshine
from moonshine import MoonshineError
from moonshine.blocks.build import CheapConvolution, GeneratedConv, ParallelBranches, initialise
from moonshine.blocks.expressions import Branches, Chain, Conv, Identity
from moonshine.blocks.families.generated import TensorTrain, modes
from moonshine.blocks.families.kind import Kind
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.registry import KINDS, plan_block
from moonshine.blocks.residual import make_block
from moonshine.search.fisher import per_place
from moonshine.structures.build import build, residual_blocks
from tests.messages import naming
from tests.moonshine.blocks.golden import GOLDEN
from tests.moonshine.odd_networks import Net, Residual, spatial

ONE_OF_EACH = {
    "S": "S",
    "G": "G(4)",
    "B": "B(2)",
    "BG": "BG(2,M)",
    "XCEP": "XCEP",
    "NAS": "NAS",
    "BASE": "BASE(2)",
    "SIC": "SIC(2)",
    "MOB": "MOB(0.5)",
    "RXT": "RXT(4,2)",
    "MBX": "MBX(2)",
    "SBOT": "SBOT(2)",
    "SHUF": "SHUF(4,2)",
    "LSHUF": "LSHUF(2)",
    "FIRE": "FIRE(4)",
    "PRB": "PRB(2)",
    "SEPN": "SEPN(2,2)",
    "LRE": "LRE(2)",
    "LRE1": "LRE1(2,shared)",
    "FLAT": "FLAT(2)",
    "NB1D": "NB1D",
    "D2x2": "D2x2",
    "DIL": "DIL(2)",
    "NIN": "NIN(2)",
    "LR": "LR(4)",
    "SLR": "SLR(0.5)",
    "TLR": "TLR(0.5)",
    "TT": "TT(4)",
    "STT": "STT(0.5)",
    "STUCK": "STUCK(0.5)",
    "HASH": "HASH(0.1)",
    "SHASH": "SHASH(0.1)",
    "TOPO": "TOPO(2)",
    "PRED": "PRED(3)",
    "GEQ": "GEQ(p4m)",
    "ACDC": "ACDC(2)",
    "FRIED": "FRIED(k)",
}


def lone(block: str, place: Geometry) -> CheapConvolution:
    planned = plan_block(block, (place,))
    torch.manual_seed(0)
    made = CheapConvolution(planned.kind, planned.units, planned.whole)
    initialise(made)
    return made


def test_every_kind_is_tested() -> None:
    assert ONE_OF_EACH.keys() == KINDS.keys()


def test_the_documentation_lists_every_kind() -> None:
    text = (Path(__file__).parents[3] / "docs" / "blocks.md").read_text()
    for name, kind in KINDS.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{kind}` |")]
        assert ("| once |" in row) == (kind.replaces == "pair"), name


@pytest.mark.parametrize("block", GOLDEN)
def test_golden_sizes(block: str) -> None:
    with torch.device("meta"):
        found = moonshine.cost(build("wrn-40-2", block))
    assert (found.parameters, found.macs) == GOLDEN[block]


PLACES = (
    Geometry(16, 32, stride=(2, 2)),
    Geometry(16, 16, dilation=(2, 2), padding=(2, 2), bias=True),
    Geometry(16, 16, padding="same"),
    Geometry(16, 32, stride=(2, 1), padding_mode="circular"),
    Geometry(16, 16, padding=(0, 1)),
    Geometry(16, 16, (5, 3), padding=(2, 1)),
    Geometry(16, 32, (3, 1), padding=(1, 0)),
    Geometry(16, 16, (4, 4), padding=(1, 1)),
)


def where_it_fits() -> Iterator[tuple[str, Geometry]]:
    for block in ONE_OF_EACH.values():
        for place in PLACES:
            with suppress(MoonshineError):
                plan_block(block, (place,))
                yield block, place


@pytest.mark.parametrize(("block", "place"), list(where_it_fits()))
def test_a_block_gives_maps_of_the_size_that_the_convolution_gives(block: str, place: Geometry) -> None:
    x = torch.randn(2, 16, 8 if "SBOT" in block else 9, 10)
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


@pytest.mark.parametrize("block", ONE_OF_EACH.values())
def test_the_output_of_new_weights_has_the_size_of_the_input(block: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 128, 16, 16).relu()
    made = lone(block, Geometry(128, 128))
    with torch.no_grad():
        assert 0.1 < made(x)[:, :, 2:-2, 2:-2].var().item() < 10


@pytest.mark.parametrize("block", ONE_OF_EACH.values())
def test_every_weight_learns_and_a_copy_computes_the_same(block: str) -> None:
    module = make_block(block, 16, 32, 2)
    x = torch.randn(2, 16, 8, 8)
    module(x).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())
    assert torch.equal(copy.deepcopy(module).eval()(x), module.eval()(x))


@pytest.mark.parametrize("block", ONE_OF_EACH.values())
@pytest.mark.parametrize(("network", "place"), [("resnet-10-0.25", "layer2.0"), ("erfnet-0.5", "stage2.1")])
def test_built_in_networks_take_it_and_score_it(network: str, place: str, block: str) -> None:
    if block == "SBOT(2)":
        place = place.replace("stage2", "stage1")  # which has no dilation
    blocks = dict.fromkeys(residual_blocks(network), "S") | {place: block}
    model = build(network, blocks, num_classes=4)
    images = torch.randn(2, 3, 32, 32)
    logits = model(images)
    assert logits.shape[:2] == (2, 4)
    assert per_place(model, images, torch.zeros_like(logits[:, 0]).long(), [place])[place] > 0


@pytest.mark.parametrize("block", [*ONE_OF_EACH.values(), "FIRE(4,once)"])
def test_third_party_networks_take_it(block: str) -> None:
    """In the place of a residual block's two convolutions around its own batch norm, and of a lone one."""
    branch = nn.Sequential(spatial(), nn.BatchNorm2d(8), nn.ReLU(), spatial())
    network = Net(Residual(branch), spatial(8, 16), width=16)
    student = moonshine.substitute(network, block, input_shape=(3, 12, 12))
    images = torch.randn(2, 3, 12, 12)
    assert student(images).shape == (2, 5)
    places = ["body.0", "body.1"]
    assert all(per_place(student, images, torch.zeros(2).long(), places)[path] > 0 for path in places)
    narrowed = block in ("B(2)", "BG(2,M)", "SHUF(4,2)", "FIRE(4,once)", "SEPN(2,2)")
    norm = student.get_submodule("body.0.branch.1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert (norm.num_features < 8) == narrowed


def test_one_unit_for_two_convolutions_has_a_norm_where_the_networks_own_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = Kind("P", (), lambda place: place.spatial(place.in_channels, place.out_channels), "pair")
    monkeypatch.setitem(KINDS, "P", kind)
    with pytest.raises(
        MoonshineError,
        match=r"no convolution that P can replace .* no batch norm and ReLU .*allowed: .* body\.0",
    ):
        moonshine.substitute(Net(Residual(nn.Sequential(spatial(), spatial()))), "P")


def test_d2x2_is_a_3x3_convolution_with_its_corners_only() -> None:
    made = lone("D2x2", Geometry(4, 6, stride=(2, 2), dilation=(2, 2), padding=(2, 2)))
    conv = made[0]
    assert isinstance(conv, nn.Conv2d)
    weight = torch.zeros(6, 4, 3, 3)
    weight[:, :, ::2, ::2] = conv.weight.detach()
    x = torch.randn(2, 4, 9, 9)
    expected = nn.functional.conv2d(x, weight, stride=2, dilation=2, padding=2)
    torch.testing.assert_close(made(x).detach(), expected)


def test_lre_is_a_convolution_of_rank_one_kernels() -> None:
    made = lone("LRE(3)", Geometry(4, 6, stride=(2, 2)))
    rows, columns = (layer for layer in made if isinstance(layer, nn.Conv2d))
    weight = torch.einsum("oky,kix->oiyx", columns.weight[:, :, 0, :], rows.weight[:, :, :, 0])
    x = torch.randn(2, 4, 8, 8)
    expected = nn.functional.conv2d(x, weight.transpose(2, 3), stride=2, padding=1)
    torch.testing.assert_close(made(x).detach(), expected.detach())


def test_a_tensor_train_is_the_product_of_its_cores() -> None:
    conv = Conv(16, 128, (3, 3), weight=TensorTrain(5))
    made = GeneratedConv(conv, bias=False)
    assert [tuple(core.shape) for core in made.factors] == [(1, 9, 5), (5, 8, 5), (5, 16, 5), (5, 16, 1)]
    spatial, first, second, third = (core.detach() for core in made.factors)
    first, second, third = first.view(5, 2, 4, 5), second.view(5, 2, 8, 5), third.view(5, 4, 4, 1)
    kernel = torch.einsum("zka,aisb,bjtc,clud->stuijlk", spatial, first, second, third)
    torch.testing.assert_close(made.materialise().detach(), kernel.reshape(128, 16, 3, 3))


def test_modes_are_factors_near_each_other() -> None:
    """Those of 64 and 128 are the paper's; 16 and 32 occur in the golden counts."""
    assert [modes(width) for width in (16, 32, 64, 128)] == [(2, 2, 4), (2, 4, 4), (4, 4, 4), (4, 8, 4)]
    assert modes(37) == (1, 1, 37)


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
        ("SBOT(6)", Geometry(8, 8, stride=(2, 2)), ["6", "stride of 2x2", "2", "4", "8"]),
        ("SBOT(3)", Geometry(8, 8, stride=(2, 2)), ["3", "stride of 2x2", "2", "4", "8"]),
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
    with pytest.raises(MoonshineError, match=naming(*said)):
        plan_block(block, (place,), "here")


@pytest.mark.parametrize("block", ["TT(0)", "LRE(0)", "FIRE(0)", "SHUF(0,4)", "LR(0)", "SIC(0)", "PRED(0)"])
def test_a_rank_of_0(block: str) -> None:
    with pytest.raises(MoonshineError, match=naming("'0'", "whole number from 1")):
        plan_block(block, (Geometry(8, 8),))


@pytest.mark.parametrize("block", ["SLR(1.5)", "SLR(0)", "STT(3/2)", "HASH(2)"])
def test_a_fraction_outside_0_to_1(block: str) -> None:
    with pytest.raises(MoonshineError, match=naming(f"{block[block.index('(') + 1 : -1]}", "up to 1")):
        plan_block(block, (Geometry(8, 8),))


def test_a_spatial_bottleneck_takes_maps_that_it_divides() -> None:
    with pytest.raises(MoonshineError, match=naming("4x4", "6x8", "multiples")):
        lone("SBOT(4)", Geometry(8, 8))(torch.zeros(1, 8, 6, 8))


def test_branches_that_add_and_transposed_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What later kinds are made of: a sum with the input, and a resolution that is lowered and raised."""

    def added(place: Geometry) -> Chain:
        width = place.in_channels
        down = Conv(width, width, (2, 2), (2, 2), groups=width)
        return Chain(Branches("add", Identity(), Chain(down, replace(down, transposed=True))))

    monkeypatch.setitem(KINDS, "SB", Kind("SB", (), added))
    made = lone("SB", Geometry(64, 64, bias=True))
    (branches,) = made
    assert isinstance(branches, ParallelBranches)
    x = torch.randn(4, 64, 8, 8).relu()
    with torch.no_grad():
        assert 0.1 < (made(x) - x).var().item() < 10
        torch.testing.assert_close(made(x), x + branches[1](x))
