"""Every kind: published and computed sizes, what it computes, where it fits, and how its weights start."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import moonshine
from moonshine import MoonshineError
from moonshine.blocks.expressions import Branches, Chain, Conv, Identity
from moonshine.blocks.families.generated import TensorTrain, modes
from moonshine.blocks.families.kind import Kind
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.initialisation import initialise
from moonshine.blocks.layers import AcrossChannelsConv, GeneratedConv, ParallelBranches
from moonshine.blocks.registry import KINDS, plan_block
from moonshine.blocks.residual import ResidualBlock
from moonshine.search.fisher import per_place
from moonshine.structures.build import build, residual_blocks
from tests.moonshine.blocks.examples import BOTH, LONE, ONE_OF_EACH, lone
from tests.moonshine.blocks.golden import ADDED, GOLDEN, GOLDEN_NETWORKS, LEFT_OUT, READ_AS
from tests.moonshine.odd_networks import Net, Residual, spatial


def test_every_kind_is_tested() -> None:
    assert ONE_OF_EACH.keys() == KINDS.keys()


@pytest.mark.parametrize("block", GOLDEN)
def test_golden_sizes(block: str) -> None:
    with torch.device("meta"):
        found = moonshine.cost(build("wrn-40-2", block))
    assert (found.parameters, found.macs) == GOLDEN[block]


@pytest.mark.parametrize("network", GOLDEN_NETWORKS)
def test_golden_sizes_of_other_widths(network: str) -> None:
    with torch.device("meta"):
        found = moonshine.cost(build(network, "G(N)"))
    assert (found.parameters, found.macs) == GOLDEN_NETWORKS[network]


def test_every_independent_build_is_golden_or_left_out_with_a_reason() -> None:
    only_by_another_name = {*READ_AS.values()} - {"HASH(0.1)"}
    by_their_name = GOLDEN.keys() - only_by_another_name - {*ADDED}
    assert len(READ_AS) + len(by_their_name) + len(LEFT_OUT) == 110
    assert {*READ_AS.values()} <= GOLDEN.keys() | GOLDEN_NETWORKS.keys()
    assert LEFT_OUT.keys().isdisjoint(READ_AS)
    assert all(len(reason) > 20 for _, _, reason in LEFT_OUT.values())


@pytest.mark.parametrize("block", ONE_OF_EACH.values())
def test_the_output_of_new_weights_has_the_size_of_the_input(block: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 128, 16, 16).relu()
    made = lone(block, Geometry(128, 128))
    with torch.no_grad():
        assert 0.1 < made(x)[:, :, 2:-2, 2:-2].var().item() < 10


@pytest.mark.parametrize("block", ONE_OF_EACH.values())
def test_every_weight_learns_and_a_copy_computes_the_same(block: str) -> None:
    first = Geometry(16, 32, stride=(2, 2), stage=1)
    module = ResidualBlock(plan_block(block, (first, first.again())))
    initialise(module)
    x = torch.randn(2, 16, 8, 8)
    module.to(memory_format=torch.channels_last)  # which no parameter of more than four dimensions can have
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


@pytest.mark.parametrize("block", [*LONE, *BOTH, "FIRE(4,once)"])
def test_third_party_networks_take_it(block: str) -> None:
    """In the place of a residual block's two convolutions around its own batch norm, and of a lone one if it can."""
    branch = nn.Sequential(spatial(), nn.BatchNorm2d(8), nn.ReLU(), spatial())
    network = Net(Residual(branch), spatial(8, 16), width=16)
    student = moonshine.substitute(network, block, input_shape=(3, 12, 12))
    images = torch.randn(2, 3, 12, 12)
    assert student(images).shape == (2, 5)
    places = ["body.0"] if block in BOTH else ["body.0", "body.1"]
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


def test_d3_is_a_three_dimensional_convolution_and_a_mean() -> None:
    (made,) = [
        layer for layer in lone("D3", Geometry(4, 6)).modules() if isinstance(layer, AcrossChannelsConv)
    ]
    x = torch.randn(2, 4, 5, 7)
    weight = made.weight.unsqueeze(-1)
    expected = nn.functional.conv3d(x.unsqueeze(1), weight, padding=(1, 0, 0)).mean(2)
    torch.testing.assert_close(made(x), expected)


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
