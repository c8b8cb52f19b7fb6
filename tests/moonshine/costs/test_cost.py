"""Costs: every golden row, torchvision's published figures, real files, peaks worked out by hand."""

import csv
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional

import moonshine
from moonshine import MoonshineError
from moonshine.costs.cost import cost, file_bytes
from moonshine.structures.build import build
from tests.messages import naming

LINES = (Path(__file__).parents[1] / "wrn_costs.csv").read_text().splitlines()
GOLDEN = list(csv.DictReader(line for line in LINES if not line.startswith("#")))
FLOAT = 4


class Function(nn.Module):
    """A module from a function, for networks written without modules."""

    def __init__(self, function, **tensors):
        super().__init__()
        self.function = function
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor))

    def forward(self, x):
        return self.function(self, x)


def test_every_golden_row():
    assert len(GOLDEN) == 66
    found = []
    for row in GOLDEN:
        with torch.device("meta"):
            model = build(f"wrn-{row['depth']}-{row['width']}", row["block"], int(row["classes"]))
        costs = cost(model)
        figures = {"params": costs.parameters, "macs_conv_fc": costs.macs, "ops_with_relu_pool": costs.ops}
        found.append({**row, **{key: str(value) for key, value in figures.items()}})
    assert found == GOLDEN


@pytest.mark.parametrize(
    ("name", "parameters", "macs", "ops"),
    [("resnet34", 21_797_672, "3663.76", "3669.16"), ("resnet18", 11_689_512, "1814.07", "1818.21")],
)
def test_torchvision_networks(name, parameters, macs, ops):
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        model = getattr(models, name)()
    found = cost(model, (3, 224, 224))
    assert found.parameters == parameters
    assert f"{found.macs / 1e6:.2f}" == macs
    assert f"{found.ops / 1e6:.2f}" == ops


@pytest.mark.parametrize("block", ["S", "BG(2,M/8)"])
def test_bytes_are_those_of_the_real_file(block):
    model = build("wrn-16-1", block)
    found = cost(model)
    state = model.state_dict()
    assert found.bytes == len(save(state))
    halved = {key: value.bfloat16() if value.is_floating_point() else value for key, value in state.items()}
    assert found.bytes_bf16 == len(save(halved))


def test_file_bytes_of_mixed_types_and_names():
    state = {
        "z": torch.zeros(3, dtype=torch.bool),
        "größe": torch.zeros(2, 5),
        "a": torch.zeros((), dtype=torch.int64),
        "u": torch.zeros(7, dtype=torch.uint8),
        "i": torch.zeros(1, dtype=torch.int32),
        "h": torch.zeros(0, 3),
    }
    assert file_bytes(state) == len(save(state))
    assert file_bytes({**state, "tied": state["größe"]}) == len(save(state))
    assert file_bytes({}) == len(save({}))
    with pytest.raises(MoonshineError, match=naming("c", "torch.complex64", "torch.int64")):
        file_bytes({"c": torch.zeros(1, dtype=torch.complex64)})


def test_frozen_weights_are_stored_but_not_trainable():
    model = nn.Linear(5, 3)
    whole = cost(model, (5,))
    model.bias.requires_grad_(False)
    assert (whole.parameters, cost(model, (5,)).parameters) == (18, 15)
    assert cost(model, (5,)).bytes == whole.bytes


def test_macs_of_every_way_to_write_a_linear_map():
    width = torch.zeros(6, 4, 3, 3)
    functional_net = Function(lambda m, x: functional.conv2d(x, m.w, padding=1), w=width)
    assert cost(functional_net, (4, 5, 7)).macs == 5 * 7 * 6 * 4 * 9
    grouped = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    assert cost(grouped, (4, 5, 7)).macs == 3 * 4 * 6 * 2 * 9
    transposed = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)
    assert cost(transposed, (4, 5, 7)).macs == 5 * 7 * 4 * 3 * 9
    assert cost(nn.Conv1d(2, 3, 5), (2, 9)).macs == 5 * 3 * 2 * 5
    assert cost(nn.Linear(6, 8, bias=False), (5, 6)).macs == 5 * 6 * 8
    tokens = Function(lambda m, x: x @ m.w.T, w=torch.zeros(8, 6))
    assert cost(tokens, (5, 6)).macs == 5 * 6 * 8


def test_attention_counts_its_linear_layers_only():
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    attention = Function(lambda m, x: m.layer(x, x, x, need_weights=False)[0])
    attention.layer = layer
    before = torch.backends.mha.get_fastpath_enabled()
    assert cost(attention, (5, 8)).macs == 5 * 8 * (3 * 8 + 8)
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_published_ops_count_modules_only():
    def extra(layer, shape):
        found = cost(layer, shape)
        return found.ops - found.macs

    assert extra(nn.ReLU(), (4, 6, 6)) == 4 * 36
    assert extra(nn.MaxPool2d(3, 2, padding=1), (4, 6, 6)) == 4 * 9 * 9
    assert extra(nn.AvgPool2d((2, 3)), (4, 6, 6)) == 4 * 6 * 6
    assert extra(nn.AdaptiveAvgPool2d(1), (4, 6, 6)) == 4 * 36
    assert extra(nn.Linear(4, 7), (4,)) == 7
    assert extra(nn.Linear(4, 7, bias=False), (4,)) == 0
    relu = nn.ReLU()
    assert extra(nn.Sequential(relu, relu), (4, 6, 6)) == 2 * 4 * 36
    assert extra(Function(lambda m, x: functional.avg_pool2d(functional.relu(x), 2)), (4, 6, 6)) == 0


@pytest.mark.parametrize(
    ("network", "floats"),
    [
        (Function(lambda m, x: x), 100),
        (nn.ReLU(), 200),
        (nn.ReLU(inplace=True), 100),
        (nn.Flatten(), 100),
        (Function(lambda m, x: torch.cat([x, x])), 300),
        # Sequential holds its input throughout, and of the rest only what enters and leaves one layer.
        (nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.ReLU()), 300),
        (Function(lambda m, x: x + functional.relu(functional.relu(functional.relu(x)))), 300),
        (nn.Conv2d(1, 3, 1), 400),
        (nn.BatchNorm2d(1), 200),
        (nn.Linear(10, 1), 110),  # a transposed view of its weight is no activation
    ],
)
def test_peak_by_hand(network, floats):
    assert cost(network, (1, 10, 10)).peak_activation_bytes == floats * FLOAT


def test_peak_of_a_wide_residual_network_by_hand():
    """In stage 1: the image, the stage's input and three maps (a block's input, a BN's input and output)."""
    for block in ("S", "G(4)"):
        found = cost(build("wrn-16-2", block))
        assert found.peak_activation_bytes == (3 + 16 + 3 * 32) * 32 * 32 * FLOAT


def test_the_module_is_left_untouched():
    torch.manual_seed(0)
    model = build("wrn-10-1", "G(2)").train()
    model.get_submodule("stage1").eval()
    calls = []
    model.get_submodule("head").register_forward_hook(lambda *_: calls.append(1))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    owners = [id(tensor) for tensor in (*model.parameters(), *model.buffers())]
    random = torch.get_rng_state()
    cost(model)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert owners == [id(tensor) for tensor in (*model.parameters(), *model.buffers())]
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert torch.equal(random, torch.get_rng_state())
    assert len(model.get_submodule("relu")._forward_hooks) == 0


def test_any_device_and_precision_cost_the_same():
    model = build("wrn-10-1", "B(2)")
    with torch.device("meta"):
        shadow = build("wrn-10-1", "B(2)")
        assert cost(shadow) == cost(model)
    assert all(parameter.is_meta for parameter in shadow.parameters())
    assert cost(build("wrn-10-1", "B(2)").bfloat16()) == cost(model)


def test_forward_passes_that_look_at_values():
    def forward(module, x):
        return functional.conv2d(x, module.w) if module.w.sum() > 1 else x

    assert cost(Function(forward, w=torch.ones(2, 1, 1, 1)), (1, 4, 4)).macs == 2 * 16


def test_package_export_and_defaults():
    found = moonshine.cost(moonshine.build("wrn-10-1"))
    assert (found.input_shape, found.batch) == ((3, 32, 32), 1)
    assert math.prod(found.input_shape) * FLOAT < found.peak_activation_bytes


@pytest.mark.parametrize("shape", [(), (3, 0, 32), (3, 32.0, 32), ("3", 32, 32), (3, -1, 2)])
def test_input_that_is_no_shape(shape):
    with pytest.raises(MoonshineError, match=naming("input_shape", "1")):
        cost(nn.ReLU(), shape)


def test_input_that_the_network_cannot_take():
    with pytest.raises(MoonshineError, match=naming("1x32x32", "3 channels")):
        cost(build("wrn-10-1"), (1, 32, 32))
