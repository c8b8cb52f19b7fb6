"""ERFNet: the paper's forward pass, its stages, its names, and the images that it takes."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

import moonshine
from moonshine import MoonshineError
from moonshine.distillation.taps import record
from moonshine.networks.families import parse_network
from moonshine.search.rivals import rival_candidates
from moonshine.structures.build import assign, build, from_structure, residual_blocks, sites, to_structure
from tests.messages import naming

TINY = "erfnet-0.5"  # stages of 32, 64, 32 and 8 channels


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def paper_forward(state, x):
    """The paper's network of ordinary blocks in eval mode, with functional calls and one state dict."""

    def norm(x, name):
        keys = ("running_mean", "running_var", "weight", "bias")
        mean, variance, weight, bias = (state[f"{name}.{key}"] for key in keys)
        return functional.batch_norm(x, mean, variance, weight, bias, eps=1e-3)

    def conv(x, name, **how):
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how)

    def transposed(x, name, **how):
        return functional.conv_transpose2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how)

    def down(x, name):
        y = torch.cat([conv(x, f"{name}.conv", stride=2, padding=1), functional.max_pool2d(x, 2)], 1)
        return norm(y, f"{name}.norm").relu()

    def up(x, name):
        return norm(transposed(x, f"{name}.0", stride=2, padding=1, output_padding=1), f"{name}.1").relu()

    def stage(x, name, dilations):
        for index, d in enumerate(dilations):
            inner = f"{name}.{index}.branch"
            y = conv(x, f"{inner}.0", padding=(1, 0)).relu()
            y = norm(conv(y, f"{inner}.2", padding=(0, 1)), f"{inner}.3").relu()
            y = conv(y, f"{inner}.5", padding=(d, 0), dilation=(d, 1)).relu()
            y = conv(y, f"{inner}.7", padding=(0, d), dilation=(1, d))
            x = (x + norm(y, f"{name}.{index}.norm")).relu()
        return x

    x = stage(down(down(x, "down1"), "down2"), "stage1", (1,) * 5)
    x = stage(down(x, "down3"), "stage2", (2, 4, 8, 16, 2, 4, 8, 16))
    x = stage(up(x, "up1"), "stage3", (1, 1))
    x = stage(up(x, "up2"), "stage4", (1, 1))
    return transposed(x, "head", stride=2)


def test_forward_is_that_of_the_paper():
    torch.manual_seed(0)
    model = build(TINY, num_classes=5, in_channels=1).eval()
    for (
        name,
        buffer,
    ) in model.named_buffers():  # fresh statistics of 0 and 1 would hide a misplaced batch norm
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    x = torch.randn(2, 1, 40, 48)
    with torch.no_grad():
        found = model(x)
        assert found.shape == (2, 5, 40, 48)
        assert torch.allclose(found, paper_forward(model.state_dict(), x), rtol=1e-4, atol=1e-4)


def test_dropout_is_of_the_encoder():
    with torch.device("meta"):
        model = build("erfnet", "B(2)")
    rates = {
        tap: {layer.p for layer in model.get_submodule(tap).modules() if isinstance(layer, nn.Dropout2d)}
        for tap in model.taps
    }
    assert rates == {"stage1": {0.03}, "stage2": {0.3}, "stage3": {0.0}, "stage4": {0.0}}


@pytest.mark.parametrize("block", ["S", "G(4)", "BG(2,M)"])
def test_taps_are_the_stages(block):
    model = build(TINY, block, num_classes=4).eval()
    assert residual_blocks(TINY) == tuple(
        f"{tap}.{index}" for tap, n in zip(model.taps, (5, 8, 2, 2), strict=True) for index in range(n)
    )
    with record(model, (*model.taps, *residual_blocks(TINY))) as maps, torch.no_grad():
        model(torch.randn(2, 3, 32, 64))
    shapes = [tuple(maps[tap].shape[1:]) for tap in model.taps]
    assert shapes == [(32, 8, 16), (64, 4, 8), (32, 8, 16), (8, 16, 32)]
    assert all((maps[tap] >= 0).all() for tap in model.taps)


def test_structure_round_trip():
    blocks = {path: ("S", "G(N/4)", "BG(2,M)")[i % 3] for i, path in enumerate(residual_blocks(TINY))}
    structure = to_structure(TINY, blocks, num_classes=5, in_channels=1)
    assert structure.blocks == blocks
    first, again = build(TINY, blocks, 5, 1).eval(), from_structure(structure).eval()
    assert list(first.state_dict()) == list(again.state_dict())
    again.load_state_dict(first.state_dict())
    x = torch.randn(1, 1, 16, 24)
    with torch.no_grad():
        assert torch.equal(first(x), again(x))


def test_same_seed_same_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return build(TINY, "B(2)").state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("erfnet", (16, 64, 128, 64, 16)),
        ("erfnet-2", (32, 128, 256, 128, 32)),
        ("erfnet-0.5", (8, 32, 64, 32, 8)),
        (
            "erfnet-0.15625",
            (3, 10, 20, 10, 3),
        ),  # 2.5: halves go up; no room for the three channels of the image
    ],
)
def test_widths(name, channels):
    assert parse_network(name).channels == channels
    assert str(parse_network(name)) == name
    assert {(site.in_channels, site.stride) for site in sites(name)} == {(c, 1) for c in channels[1:]}
    model = build(name, num_classes=3).eval()
    assert model.get_parameter("down1.norm.weight").shape == channels[:1]
    with torch.no_grad():
        assert model(torch.randn(1, 3, 8, 16)).shape == (1, 3, 8, 16)


def test_rivals():
    names = rival_candidates("erfnet", "width")
    assert "erfnet-0.5" in names
    with torch.device("meta"):
        sizes = [count(build(name, num_classes=20)) for name in (*names[::9], "erfnet")]
    assert all(smaller < larger for smaller, larger in pairwise(sizes))
    with pytest.raises(MoonshineError, match=naming("erfnet", "depth")):
        rival_candidates("erfnet", "depth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("erfnet-1", ["erfnet-1", "not a valid", "wrn-", "resnet-", "erfnet-<width>"]),
        ("erfnet-0.5-2", ["erfnet-0.5-2", "not a valid"]),
        ("erfnet-", ["'erfnet-'", "not a valid"]),
        ("ERFNet", ["ERFNet", "not a valid"]),
        ("erfnet-0.03", ["erfnet-0.03", "2", "4", "0 channels", "1"]),
    ],
)
def test_unknown_networks(name, message):
    with pytest.raises(MoonshineError, match=naming(*message)):
        assign(name)


def test_sizes_of_images():
    with torch.device("meta"):
        model = build(TINY).eval()
    for height, width in ((100, 200), (36, 48), (48, 36)):
        with pytest.raises(MoonshineError, match=naming("erfnet", f"{height}x{width}", "8")):
            model(torch.zeros(1, 3, height, width, device="meta"))
    with pytest.raises(MoonshineError, match=naming("erfnet", "100x200", "8")):
        moonshine.cost(model, (3, 100, 200))
    assert moonshine.cost(build(TINY, "BG(2,M)"), (3, 360, 480)).input_shape == (3, 360, 480)
