"""ERFNet: its published size, the paper's forward pass, and cheap blocks in its factorised form."""

import json
import re
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import moonshine
from moonshine import MoonshineError
from moonshine.distillation.taps import record
from moonshine.networks.blocks import KINDS, PAPER, Conv, Kind, convolutions
from moonshine.networks.build import assign, build, from_structure, residual_blocks, sites, to_structure
from moonshine.networks.erfnet import NonBottleneck1D
from moonshine.networks.families import parse
from moonshine.networks.replacement import last_convolution
from moonshine.search.fisher import per_place
from moonshine.search.rivals import candidates
from moonshine.substitution.layout import lay_out

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


@pytest.mark.parametrize("block", [*CHEAP, "T"])
def test_every_kind_of_block_learns(block, monkeypatch):
    kind = Kind("T", (), lambda i, o, stride: ((Conv(i, o, 1, stride), Conv(o, o, 5)),))  # one added later
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
            with suppress(MoonshineError):
                yield channels, convolutions(block, channels, channels)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.sampled_from(list(fitting())), st.integers(1, 20))
def test_a_block_that_fits_keeps_the_map_and_lets_everything_learn(fits, dilation):
    channels, planned = fits
    module = NonBottleneck1D(planned, dilation, 0.3)
    x = torch.randn(2, channels, 5, 7)
    y = module(x)
    assert y.shape == x.shape
    y.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    inner = [layer for layer in module.branch if isinstance(layer, nn.Conv2d)]
    normed = {id(before) for before, after in pairwise(module.branch) if isinstance(after, nn.BatchNorm2d)}
    flat = [conv for unit in planned for conv in unit]
    assert len(inner) == len(flat) + sum(conv.kernel > 1 for conv in flat)
    assert all(conv.bias is not None for conv in inner if id(conv) not in normed)


def test_fisher_potential_is_read_at_the_end_of_the_branch():
    torch.manual_seed(0)
    names = ("S", "G(4)", "B(2)", "BG(2,M)")
    blocks = {path: names[index % 4] for index, path in enumerate(residual_blocks(TINY))}
    model = build(TINY, blocks, num_classes=4)
    for path in blocks:
        branch = model.get_submodule(f"{path}.branch")
        assert last_convolution(model, path) is list(branch.children())[-1]
    images, labels = torch.randn(2, 3, 32, 32), torch.randint(4, (2, 32, 32))
    assert all(value > 0 for value in per_place(model, images, labels, list(blocks)).values())


@pytest.mark.parametrize("block", ["G(4)", "B(2)", "BG(2,M)"])
@pytest.mark.parametrize("shape", [None, (3, 16, 24)])
def test_a_student_by_substitution_is_the_one_that_is_built(block, shape):
    torch.manual_seed(0)
    teacher, built = build(TINY, num_classes=4), build(TINY, block, num_classes=4)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    made = moonshine.substitute(teacher, block, input_shape=shape)
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert made.state_dict().keys() == built.state_dict().keys()
    assert str(made) == str(built)  # shapes, groups, dilations, dropout
    assert count(made) == count(built)
    new = tuple(f"{path}.branch." for path in residual_blocks(TINY))
    rest = {name: tensor for name, tensor in made.state_dict().items() if not name.startswith(new)}
    assert all(torch.equal(before[name], tensor) for name, tensor in rest.items())
    images, labels = torch.randn(2, 3, 16, 24), torch.randint(4, (2, 16, 24))
    assert all(value > 0 for value in per_place(made, images, labels, residual_blocks(TINY)).values())


def test_substitution_keeps_to_what_is_included_and_to_what_fits():
    teacher = build(TINY, num_classes=4)  # stages of 32, 64, 32 and 8 channels
    mixed = {path: "S" if path.startswith("stage4") else "G(16)" for path in residual_blocks(TINY)}
    assert str(moonshine.substitute(teacher, "G(16)")) == str(build(TINY, mixed, num_classes=4))
    layout = lay_out(teacher)
    assert [place.path for place in layout.places] == list(residual_blocks(TINY))
    assert layout.kept["down2.conv"] == "a downsampler"
    assert [place.path for place in lay_out(teacher, include=["stage3", "down2.conv"]).places] == [
        "down2.conv",
        "stage3.0",
        "stage3.1",
    ]
    student = moonshine.substitute(teacher, {"stage2.3": "B(2)"})
    assert student.stage2[3].branch[3].dilation == (16, 1)


def test_structure_round_trip():
    blocks = {path: ("S", "G(N/4)", "BG(2,M)")[i % 3] for i, path in enumerate(residual_blocks(TINY))}
    structure = json.loads(json.dumps(to_structure(TINY, blocks, num_classes=5, in_channels=1)))
    assert structure["blocks"] == blocks
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
    assert parse(name).channels == channels
    assert str(parse(name)) == name
    assert {(site.in_channels, site.stride) for site in sites(name)} == {(c, 1) for c in channels[1:]}
    model = build(name, num_classes=3).eval()
    assert model.get_parameter("down1.norm.weight").shape == channels[:1]
    with torch.no_grad():
        assert model(torch.randn(1, 3, 8, 16)).shape == (1, 3, 8, 16)


def test_rivals():
    names = candidates("erfnet", "width")
    assert "erfnet-0.5" in names
    with torch.device("meta"):
        sizes = [count(build(name, num_classes=20)) for name in (*names[::9], "erfnet")]
    assert all(smaller < larger for smaller, larger in pairwise(sizes))
    with pytest.raises(MoonshineError, match="no network of the family of erfnet is smaller in depth"):
        candidates("erfnet", "depth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("erfnet-1", "'erfnet-1' is unknown; allowed: wrn-.*; resnet-.*; erfnet or erfnet-<width>"),
        ("erfnet-0.5-2", "is unknown"),
        ("erfnet-", "is unknown"),
        ("ERFNet", "is unknown"),
        ("erfnet-0.03", "'erfnet-0.03': its stages would have 2, 4, 2, 0 channels; allowed: at least 1"),
    ],
)
def test_unknown_networks(name, message):
    with pytest.raises(MoonshineError, match=message):
        assign(name)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            "G(32)",
            r"G\(32\) does not fit stage4.0: 32 groups do not divide N = 16 channels; allowed: 1, 2, 4",
        ),
        ("BG(2,16)", r"BG\(2,16\) does not fit stage4.0: 16 groups do not divide M = 8 channels; allowed: 1"),
        ({"down1": "S"}, "erfnet has no residual block 'down1'; allowed: stage1.0 to stage4.1"),
    ],
)
def test_blocks_that_cannot_be(block, message):
    with pytest.raises(MoonshineError, match=message):
        build("erfnet", block)


def test_sizes_of_images():
    with torch.device("meta"):
        model = build(TINY).eval()
    for height, width in ((100, 200), (36, 48), (48, 36)):
        with pytest.raises(
            MoonshineError, match=f"erfnet: an image of {height}x{width} pixels .*divisible by 8"
        ):
            model(torch.zeros(1, 3, height, width, device="meta"))
    with pytest.raises(MoonshineError, match=re.escape("3x100x200: erfnet: an image of 100x200")):
        moonshine.cost(model, (3, 100, 200))
    assert moonshine.cost(build(TINY, "BG(2,M)"), (3, 360, 480)).input_shape == (3, 360, 480)


def test_names_are_known_without_torch():
    code = """
import sys
from moonshine.networks.build import assign
assign("erfnet-0.5", "G(4)")
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
