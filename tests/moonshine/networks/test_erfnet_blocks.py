"""ERFNet's blocks of every kind: their weights and operations, the factorised form, and that all of it learns."""

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import moonshine
from moonshine import MoonshineError
from moonshine.blocks.expressions import Chain, Conv, layers
from moonshine.blocks.families.kind import Kind
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.registry import KINDS, PAPER, plan_block
from moonshine.networks.erfnet import NonBottleneck1D
from moonshine.search.fisher import per_place
from moonshine.structures.build import build, residual_blocks, sites
from moonshine.substitution.replacement import end_of
from tests.messages import naming

TINY = "erfnet-0.5"  # stages of 32, 64, 32 and 8 channels
STAGES = {64: 7, 128: 8, 16: 2}  # channels -> blocks of erfnet
GOLDEN = 2_066_836
CHEAP = ("G(4)", "G(N)", "B(2)", "BG(2,M)")


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def weights_of_a_block(block, c):
    """By hand: kx1 and 1xk with their biases, 1x1 with theirs where they end a unit, two numbers per normed channel."""
    m = c // 2
    return {
        "S": 4 * (3 * c * c + c) + 2 * 2 * c,
        "G(4)": 2 * (2 * (3 * c * c // 4) + c + (c * c + c) + 2 * 2 * c),
        "G(N)": 2 * (2 * 3 * c + c + (c * c + c) + 2 * 2 * c),
        "B(2)": c * m + 2 * (3 * m * m) + m + (m * c + c) + 2 * 2 * m + 2 * c,
        "BG(2,M)": c * m + 2 * 3 * m + m + (m * c + c) + 2 * 2 * m + 2 * c,
    }[block]


@pytest.mark.parametrize("block", ["S", *CHEAP])
def test_parameters(block):
    with torch.device("meta"):
        model = build("erfnet", block, num_classes=20)
    rest = GOLDEN - sum(n * weights_of_a_block("S", c) for c, n in STAGES.items())
    assert count(model) == rest + sum(n * weights_of_a_block(block, c) for c, n in STAGES.items())
    for site in sites("erfnet"):
        assert count(model.get_submodule(site.path)) == weights_of_a_block(block, site.out_channels)
    if block == "S":
        assert count(model) == GOLDEN


def macs(model, shape):
    """From the layers' own numbers: each output pixel of a convolution, each input pixel of a transposed one."""
    found = []

    def hook(layer, args, out):
        pixels = (args[0] if isinstance(layer, nn.ConvTranspose2d) else out)[0, 0].numel()
        kernel = layer.kernel_size[0] * layer.kernel_size[1]
        found.append(pixels * kernel * layer.in_channels // layer.groups * layer.out_channels)

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(hook)
    model(torch.zeros(1, *shape))
    return sum(found)


@pytest.mark.parametrize("block", ["S", "BG(2,M)"])
def test_cost(block):
    with torch.device("meta"):
        found = moonshine.cost(build("erfnet", block, num_classes=20), (3, 512, 1024))
    model = build("erfnet", block, num_classes=20).eval()
    assert found.parameters == count(model)
    with torch.no_grad():
        assert found.macs == 64 * macs(model, (3, 64, 128))


@pytest.mark.parametrize("block", [*CHEAP, "T"])
def test_every_kind_of_block_learns(block, monkeypatch):
    def later(place):
        width = place.in_channels
        return Chain(Conv(width, width, joint="norm+relu"), place.spatial(width, width))

    kind = Kind("T", (), later, "pair")
    monkeypatch.setitem(KINDS, "T", kind)
    torch.manual_seed(0)
    model = build(TINY, block, num_classes=4)
    model(torch.randn(2, 3, 16, 16)).square().mean().backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert idle == {"encoder_head.weight", "encoder_head.bias"}


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("S", [((3, 1), 1, 1), ((1, 3), 1, 1), ((3, 1), 4, 1), ((1, 3), 4, 1)]),
        (
            "G(8)",
            [
                ((3, 1), 1, 8),
                ((1, 3), 1, 8),
                ((1, 1), 1, 1),
                ((3, 1), 4, 8),
                ((1, 3), 4, 8),
                ((1, 1), 1, 1),
            ],
        ),
        ("B(2)", [((1, 1), 1, 1), ((3, 1), 4, 1), ((1, 3), 4, 1), ((1, 1), 1, 1)]),
        ("BG(2,M/2)", [((1, 1), 1, 1), ((3, 1), 4, 16), ((1, 3), 4, 16), ((1, 1), 1, 1)]),
    ],
)
def test_blocks_are_factorised_and_dilated_in_their_last_pair(block, expected):
    with torch.device("meta"):
        place = build(TINY, block).get_submodule("stage2.5")
    found = [layer for layer in place.modules() if isinstance(layer, nn.Conv2d)]
    assert [(conv.kernel_size, max(conv.dilation), conv.groups) for conv in found] == expected
    for conv in found:  # dilated along its kernel only, and padded to keep the map
        assert conv.padding == tuple(
            d * (k // 2) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)
        )


def fitting():
    for block in ("S", *PAPER):
        for channels in (8, 16, 24, 64):
            for dilation in (1, 3):
                first = Geometry(channels, channels, factorised=True, bias=True)
                second = replace(first, dilation=(dilation, dilation), padding=(dilation, dilation))
                with suppress(MoonshineError):
                    yield channels, plan_block(block, (first, second))


@given(st.sampled_from(list(fitting())))
def test_a_block_that_fits_keeps_the_map_and_lets_everything_learn(fits):
    channels, planned = fits
    module = NonBottleneck1D(planned, 0.3)
    x = torch.randn(2, channels, 5, 7)
    y = module(x)
    assert y.shape == x.shape
    y.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    inner = [layer for layer in module.branch if isinstance(layer, nn.Conv2d)]
    normed = {id(before) for before, after in pairwise(module.branch) if isinstance(after, nn.BatchNorm2d)}
    assert len(inner) == sum(1 for unit in planned.units for _ in layers(unit))
    assert all(conv.bias is not None for conv in inner if id(conv) not in normed)


def test_fisher_potential_is_read_at_the_end_of_the_branch():
    torch.manual_seed(0)
    names = ("S", "G(4)", "B(2)", "BG(2,M)")
    blocks = {path: names[index % 4] for index, path in enumerate(residual_blocks(TINY))}
    model = build(TINY, blocks, num_classes=4)
    for path in blocks:
        branch = model.get_submodule(f"{path}.branch")
        assert end_of(model, path) is list(branch.children())[-1]
    images, labels = torch.randn(2, 3, 32, 32), torch.randint(4, (2, 32, 32))
    assert all(value > 0 for value in per_place(model, images, labels, list(blocks)).values())


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            "G(32)",
            ["G(32)", "stage4.0", "32 groups", "N = 16", "1", "2", "4"],
        ),
        ("BG(2,16)", ["BG(2,16)", "stage4.0", "16 groups", "M = 8", "1"]),
        ({"down1": "S"}, ["erfnet", "down1", "stage1.0", "stage4.1"]),
    ],
)
def test_blocks_that_cannot_be(block, message):
    with pytest.raises(MoonshineError, match=naming(*message)):
        build("erfnet", block)
