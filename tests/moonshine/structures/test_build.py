"""Networks: golden parameter counts, the released forward pass, initialisation, structures and bad input."""

import csv
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import moonshine
from moonshine import MoonshineError
from moonshine.blocks.expressions import Conv
from moonshine.blocks.families.kind import Kind
from moonshine.blocks.registry import KINDS, parse_block
from moonshine.structures.build import assign, build, from_structure, residual_blocks, sites, to_structure
from tests.messages import naming

LINES = (Path(__file__).parents[1] / "wrn_costs.csv").read_text().splitlines()
GOLDEN = list(csv.DictReader(line for line in LINES if not line.startswith("#")))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("block", ["S", "G(N/8)", "B(4)", "BG(2,M/8)", "BG(4,M)"])
def test_golden_parameters(block):
    """A few rows; test_costs compares every one."""
    row = {"depth": "40", "width": "2", "block": block, "classes": "10"}
    (golden,) = (golden for golden in GOLDEN if row.items() <= golden.items())
    with torch.device("meta"):
        assert count(build("wrn-40-2", block)) == int(golden["params"])


def released_forward(state, block, depth, x):
    """The released code's forward pass in eval mode, with its functional calls and one state dict."""

    def norm_relu(x, name):
        keys = ("running_mean", "running_var", "weight", "bias")
        return functional.relu(functional.batch_norm(x, *(state[f"{name}.{key}"] for key in keys)))

    def conv(x, name, stride=1, groups=1):
        weight = state[f"{name}.weight"]
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)

    x = conv(x, "stem")
    for stage in (1, 2, 3):
        for index in range((depth - 4) // 6):
            path = f"stage{stage}.{index}"
            stride = 2 if stage > 1 and index == 0 else 1
            activated = norm_relu(x, f"{path}.norm1")
            shortcut = x
            if f"{path}.shortcut.weight" in state:
                shortcut = conv(activated, f"{path}.shortcut", stride)
            inner = f"{path}.branch"
            if block == "S":
                y = conv(activated, f"{inner}.conv1", stride)
                y = conv(norm_relu(y, f"{inner}.norm2"), f"{inner}.conv2")
            elif block == "G(4)":
                y = conv(activated, f"{inner}.conv1", stride, groups=4)
                y = conv(norm_relu(y, f"{inner}.norm2"), f"{inner}.conv2")
                y = conv(norm_relu(y, f"{inner}.norm3"), f"{inner}.conv3", groups=4)
                y = conv(norm_relu(y, f"{inner}.norm4"), f"{inner}.conv4")
            else:
                assert block == "BG(2,4)"
                y = conv(activated, f"{inner}.conv1")
                y = conv(norm_relu(y, f"{inner}.norm2"), f"{inner}.conv2", stride, groups=4)
                y = conv(norm_relu(y, f"{inner}.norm3"), f"{inner}.conv3")
            x = shortcut + y
    x = norm_relu(x, "norm").mean((2, 3))
    return functional.linear(x, state["head.weight"], state["head.bias"])


@pytest.mark.parametrize("block", ["S", "G(4)", "BG(2,4)"])
def test_forward_is_that_of_the_released_code(block):
    torch.manual_seed(0)
    model = build("wrn-16-2", block, num_classes=7, in_channels=1).eval()
    for name, buffer in model.named_buffers():  # fresh BN statistics of 0 and 1 would hide a misplaced BN
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    x = torch.randn(2, 1, 12, 10)
    with torch.no_grad():
        found, expected = model(x), released_forward(model.state_dict(), block, 16, x)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_shortcut_exists_only_where_the_width_changes():
    with torch.device("meta"):
        wide, narrow = build("wrn-16-2"), build("wrn-16-1")

    def shortcuts(model):
        return [name for name, _ in model.named_modules() if name.endswith("shortcut")]

    assert shortcuts(wide) == ["stage1.0.shortcut", "stage2.0.shortcut", "stage3.0.shortcut"]
    assert shortcuts(narrow) == ["stage2.0.shortcut", "stage3.0.shortcut"]


def test_initialisation():
    torch.manual_seed(0)
    model = build("wrn-16-4", "G(8)")
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Conv2d):
            assert layer.bias is None
            if layer.weight.numel() > 2000:
                fan = layer.kernel_size[0] ** 2 * layer.out_channels
                assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan), rel=0.1), name
        elif isinstance(layer, torch.nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
    assert (model.get_parameter("head.bias") == 0).all()


def test_same_seed_same_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return build("wrn-10-1", "B(2)").state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["stem.weight"], other["stem.weight"])


def test_taps_and_residual_paths_are_module_paths():
    with torch.device("meta"):
        model = moonshine.build("wrn-16-1", "G(2)")
    assert model.taps == ("stage1", "stage2", "stage3")
    assert residual_blocks("wrn-16-1") == tuple(f"stage{s}.{i}" for s in (1, 2, 3) for i in (0, 1))
    for path in (*model.taps, *residual_blocks("wrn-16-1")):
        model.get_submodule(path)


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    model = build("wrn-10-1", "BG(2,M/4)")
    model(torch.randn(2, 3, 8, 8)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("wrn-10-2", [32, 64, 128]),
        ("wrn-10-0.75", [12, 24, 48]),
        ("wrn-10-1.03125", [17, 33, 66]),  # 16.5, 33 and 66: halves go up
        ("wrn-10-0.03125", [1, 1, 2]),
        ("resnet-10", [64, 128, 256, 512]),
        ("resnet-10-2", [128, 256, 512, 1024]),
        ("resnet-10-0.75", [64, 96, 192, 384]),
        ("resnet-10-0.5", [64, 64, 128, 256]),
        ("resnet-10-0.25", [32, 32, 64, 128]),
    ],
)
def test_widths(name, channels):
    assert [site.out_channels for site in sites(name)] == channels
    with torch.device("meta"):
        model = build(name, num_classes=4)
    for site in sites(name):
        layers = model.get_submodule(site.path).modules()
        first = next(layer for layer in layers if isinstance(layer, torch.nn.Conv2d))
        assert (first.in_channels, first.out_channels) == (site.in_channels, site.out_channels)
        assert first.stride == (site.stride, site.stride)


def test_mixed_structure_round_trip():
    paths = residual_blocks("wrn-16-2")
    mixed = dict(zip(paths, ["S", "G(4)", "B(2)", "BG(2,M/8)", "G(N)", "BG-2-4"], strict=True))
    structure = to_structure("wrn-16-2", mixed, num_classes=5, in_channels=1)
    assert structure.blocks == {**mixed, "stage3.1": "BG(2,4)"}
    direct, rebuilt = build("wrn-16-2", mixed, 5, 1), from_structure(structure)
    rebuilt.load_state_dict(direct.state_dict())
    for path, block in mixed.items():
        whole = build("wrn-16-2", block)
        assert count(direct.get_submodule(path)) == count(whole.get_submodule(path))


def test_the_first_pattern_that_matches_a_place_gives_its_block():
    blocks = {"stage2.1": "B(2)", "stage[23]": "G(4)", "*": "S"}
    found = to_structure("wrn-16-1", blocks).blocks
    assert found == {
        "stage1.0": "S",
        "stage1.1": "S",
        "stage2.0": "G(4)",
        "stage2.1": "B(2)",
        "stage3.0": "G(4)",
        "stage3.1": "G(4)",
    }


def test_one_block_is_the_same_as_that_block_everywhere():
    assert to_structure("wrn-10-2", "G(4)").blocks == dict.fromkeys(residual_blocks("wrn-10-2"), "G(4)")
    assert assign("wrn-10-2", parse_block("G(4)")) == assign("wrn-10-2", "G-4")


def test_a_registered_kind_is_a_network_block_too(monkeypatch):
    monkeypatch.setitem(
        KINDS,
        "T",
        Kind("T", (), lambda place: Conv(place.in_channels, place.out_channels, stride=place.stride)),
    )
    assert build("wrn-10-1", "T")(torch.zeros(1, 3, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg-16", ["vgg-16", "not a valid", "wrn-<depth>-<width>", "resnet-<depth>"]),
        ("resnet-99", ["resnet-99", "99", "10", "18", "34"]),
        ("wrn-40", ["wrn-40", "width", "wrn-<depth>-<width>"]),
        ("wrn-41-2", ["depth 41", "10", "16", "22", "28", "34", "40"]),
        ("wrn-4-2", ["depth 4"]),
        ("wrn-40-0", ["wrn-40-0", "not a valid"]),
        ("WRN-40-2", ["WRN-40-2", "not a valid"]),
        ("wrn-40-2.0", ["wrn-40-2.0", "not a valid"]),
        ("wrn-40-0.750", ["wrn-40-0.750", "not a valid"]),
        ("wrn-40-.75", ["wrn-40-.75", "not a valid"]),
        ("wrn-40-00.75", ["wrn-40-00.75", "not a valid"]),
        ("wrn-40-0.1234567", ["wrn-40-0.1234567", "not a valid"]),
        ("resnet-18-1", ["resnet-18-1", "not a valid"]),
        ("wrn-40-0.03", ["0, 1, 2 channels", "at least 1"]),
        ("resnet-18-0.003", ["0, 0, 1, 2 channels"]),
        (40, ["40", "not a valid"]),
    ],
)
def test_unknown_networks(name, message):
    with pytest.raises(MoonshineError, match=naming(*message)):
        assign(name)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("G(32)", ["G(32)", "stage1.0", "32 groups", "N = 16", "1", "2"]),
        ("B(64)", ["B(64)", "stage1.0", "64", "N = 32"]),
        (
            {"stage1.0": "S", "stage2.0": "S", "stage3.0": "G(3)"},
            ["G(3)", "stage3.0", "N = 64"],
        ),
        ({"stage1.0": "S"}, ["stage2.0, stage3.0"]),
        ({"stage1.O": "S"}, ["wrn-10-2", "stage1.O", "stage1.0"]),
        ({"layer4": "S"}, ["layer4", "stage1.0", "stage3.0"]),
        ({"*": "S", "stage2.*": "G(4)"}, ["'stage2.*'", "stage2.0", "'*'", "first"]),
        ({"stage[12].*": "S"}, ["stage3.0", "'*'"]),
        ({"stage1": "X(4)", "*": "S"}, ["X(4)", "unknown", "G(g)"]),
        ({1: "S"}, ["'1'", "stage1.0"]),
        (3, ["block 3"]),
    ],
)
def test_blocks_that_cannot_be(block, message):
    with pytest.raises(MoonshineError, match=naming(*message)):
        build("wrn-10-2", block)


@pytest.mark.parametrize("key", ["num_classes", "in_channels"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "10", True])
def test_counts_must_be_whole_numbers(key, value):
    with pytest.raises(MoonshineError, match=naming(key, repr(value), "1")):
        build("wrn-10-1", **{key: value})
