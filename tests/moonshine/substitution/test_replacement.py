"""Blocks in place of convolutions: what stays of the old ones, the sizes of maps, and what is left untouched."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from moonshine.blocks.build import CheapConvolution
from moonshine.errors import MoonshineError
from moonshine.structures.build import build
from moonshine.substitution.replacement import apply, end_of, find_changes
from tests.messages import naming
from tests.moonshine.odd_networks import Backwards, Net, Residual, spatial
from tests.moonshine.residual_blocks import make_block


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


@st.composite
def convolution(draw: st.DrawFn) -> nn.Conv2d:
    """Any spatial convolution that takes maps of 13x11."""

    def both(values: list[int]) -> tuple[int, int]:
        return draw(st.sampled_from(values)), draw(st.sampled_from(values))

    kernel = both([1, 2, 3, 4, 5])
    if kernel == (1, 1):
        kernel = (3, 1)
    mode: Any = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    stride, padding = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from(["valid", "pixels", "same"]))
    return nn.Conv2d(
        draw(st.sampled_from([4, 8, 12])),
        draw(st.sampled_from([4, 8, 12])),
        kernel,
        stride=1 if padding == "same" else stride,
        padding=both([0, 1, 2, 3]) if padding == "pixels" else padding,
        dilation=both([1, 2]),
        bias=draw(st.booleans()),
        padding_mode=mode,
    )


BLOCKS = ["G(2)", "G(N/4)", "G(N)", "B(2)", "B(4)", "BG(2,2)", "BG(4,M)"]


@given(conv=convolution(), block=st.sampled_from(BLOCKS))
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_geometry_widths_and_bias_are_those_of_the_convolution(conv: nn.Conv2d, block: str) -> None:
    network = nn.Sequential(conv)
    x = torch.zeros(2, conv.in_channels, 13, 11)
    shape = network(x).shape
    apply(network, find_changes(network, {"0": block}))
    made = network[0]
    assert network(x).shape == shape
    layers = convolutions(made)
    assert [layer.bias is not None for layer in layers] == [False] * (len(layers) - 1) + [
        conv.bias is not None
    ]
    (cheap,) = [layer for layer in layers if layer.kernel_size != (1, 1)]
    for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode"):
        assert getattr(cheap, name) == getattr(conv, name)
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"):
        assert getattr(made, name) == getattr(conv, name)
    rows, columns = conv.kernel_size
    n, m = conv.in_channels, conv.out_channels
    inner = m // int(block[block.index("(") + 1]) if block[0] == "B" else n
    weights = inner * inner // cheap.groups * rows * columns + inner * m
    weights += n * inner + 2 * inner if block[0] == "B" else 0
    assert parameters(made) == weights + 2 * inner + (m if conv.bias is not None else 0)


@pytest.mark.parametrize("block", ["B(2)", "BG(2,2)", "G(4)"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_a_pair_by_formula(block: str, stride: int, bias: bool) -> None:
    inputs, outputs = 8, 16
    branch = nn.Sequential(
        spatial(inputs, outputs, stride=stride, bias=bias),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        spatial(outputs, outputs, bias=bias),
    )
    network = Net(Residual(branch, nn.Conv2d(inputs, outputs, 1, stride)), width=outputs)
    before = parameters(network) - parameters(branch)
    size = network.body(network.stem(torch.zeros(1, 3, 9, 7))).shape
    apply(network, find_changes(network, {"body.0": block}))
    middle, groups = outputs // 2, 2 if block == "BG(2,2)" else 1
    weights = {
        # 1x1, norm, kxk in groups, norm, 1x1: the first norm is the block's own.
        "B": inputs * middle
        + 2 * middle
        + middle**2 // groups * 9
        + 2 * middle
        + middle * outputs
        + bias * outputs,
        # Twice kxk in four groups, norm, 1x1, and the block's own norm between them.
        "G": (inputs**2 + outputs**2) * 9 // 4
        + 2 * (inputs + outputs)
        + (inputs + outputs) * outputs
        + 2 * outputs
        + 2 * bias * outputs,
    }
    assert parameters(network) - before == weights[block[0]]
    assert network.body(network.stem(torch.zeros(1, 3, 9, 7))).shape == size
    strides = [conv.stride[0] for conv in convolutions(branch) if conv.kernel_size != (1, 1)]
    assert strides == [stride] if block[0] == "B" else [stride, 1]


@pytest.mark.parametrize("padding", [1, "same"])
def test_a_bottleneck_for_two_takes_both_strides(padding: Any) -> None:
    branch = nn.Sequential(spatial(padding=padding), spatial(stride=2))
    network = Net(Residual(branch, nn.AvgPool2d(2, ceil_mode=True)))
    apply(network, find_changes(network, {"body.0": "B(2)"}))
    (cheap,) = [conv for conv in convolutions(branch) if conv.kernel_size != (1, 1)]
    assert (cheap.stride, cheap.padding) == ((2, 2), (1, 1))
    assert branch(torch.zeros(1, 8, 7, 7)).shape == (1, 8, 4, 4)


@pytest.mark.parametrize("block", ["S", "G(4)", "B(2)", "BG(2,M/2)"])
def test_a_residual_block_of_ours_becomes_the_block(block: str) -> None:
    replaced = nn.Sequential(make_block("S", 8, 16, 2))
    apply(replaced, find_changes(replaced, {"0": block}))
    shapes = sorted(tuple(own.shape) for own in replaced.parameters())
    assert shapes == sorted(tuple(own.shape) for own in make_block(block, 8, 16, 2).parameters())


def test_the_norm_between_is_resized_and_new_and_stays_of_its_kind() -> None:
    class Own(nn.BatchNorm2d):
        pass

    norm = Own(8, eps=0.1, momentum=None)
    for tensor in (*norm.parameters(), *norm.buffers()):
        tensor.data.fill_(7)
    network = Net(Residual(nn.Sequential(spatial(), norm, spatial())))
    apply(network, find_changes(network, {"body.0": "B(4)"}))
    assert network.get_submodule("body.0.branch.1") is norm
    assert (norm.num_features, norm.eps, norm.momentum) == (2, 0.1, None)
    state = {key: value.tolist() for key, value in norm.state_dict().items()}
    assert state == {
        "weight": [1, 1],
        "bias": [0, 0],
        "running_mean": [0, 0],
        "running_var": [1, 1],
        "num_batches_tracked": 0,
    }
    assert network.train()(torch.randn(2, 3, 8, 8)).shape == (2, 5)


def test_a_norm_without_weights_or_statistics() -> None:
    norm = nn.BatchNorm2d(8, affine=False, track_running_stats=False)
    network = Net(Residual(nn.Sequential(spatial(), norm, spatial())))
    apply(network, find_changes(network, {"body.0": "B(2)"}))
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 5)
    assert norm.num_features == 4


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_mode_type_and_device_are_those_of_the_convolution(training: bool, kind: torch.dtype) -> None:
    network = Net(spatial()).to(kind).train(training)
    apply(network, find_changes(network, {"body.0": "BG(2,M)"}))
    assert {layer.training for layer in network.modules()} == {training}
    assert {own.dtype for own in network.parameters()} == {kind}
    with torch.device("meta"):
        network = Net(spatial())
    apply(network, find_changes(network, {"body.0": "BG(2,M)"}))
    assert all(tensor.is_meta for tensor in network.state_dict().values())


def test_a_convolution_with_several_names_is_replaced_under_all_of_them() -> None:
    network = Net(spatial())
    network.same = network.body[0]
    network.list = nn.ModuleList([network.body, network.same])
    apply(network, find_changes(network, {"body.0": "G(4)"}))
    assert isinstance(network.body[0], CheapConvolution)
    assert network.same is network.list[1] is network.body[0]


def test_weights_depend_on_the_generator_and_not_on_the_order_of_the_mapping() -> None:
    states = []
    for paths in (["body.0", "body.1"], ["body.1", "body.0"]):
        torch.manual_seed(3)
        network = Net(spatial(), spatial())
        apply(network, find_changes(network, dict.fromkeys(paths, "G(4)")))
        states.append(network.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    cheap = states[0]["body.0.conv1.weight"]
    assert not torch.equal(cheap, states[0]["body.1.conv1.weight"])


def test_weights_are_he_normal_not_divided_by_groups() -> None:
    torch.manual_seed(0)
    network = Net(spatial(64, 64))
    apply(network, find_changes(network, {"body.0": "G(4)"}))
    grouped, pointwise = convolutions(network.body)
    assert grouped.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)
    assert pointwise.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.03)


def test_s_and_what_is_not_named_stay() -> None:
    network = Net(spatial(), spatial())
    before = copy.deepcopy(network.state_dict())
    apply(network, find_changes(network, {"body.0": "S", "body.1": "G(4)"}))
    after = network.state_dict()
    kept = [key for key in before if not key.startswith("body.1")]
    assert all(torch.equal(before[key], after[key]) for key in kept)
    assert set(json.loads(json.dumps(list(after)))) > set(kept)


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ({"body.7": "G(4)"}, ["Net", "body.7"]),
        ({"body.7": "S"}, ["Net", "body.7"]),
        ({"": "G(4)"}, ["Net", "module ''"]),
        ({"head": "G(4)"}, ["head", "Linear"]),
        ({"body": "G(4)"}, ["body", "Sequential"]),
        ({"body.3": "PRED(3)"}, ["body.3", "Conv2d of 1x1 in 1 group", "without groups"]),
        ({"body.4": "HASH(0.1)"}, ["body.4", "Conv2d of 3x3 in 4 groups", "without groups"]),
        ({"body.1": "G(3)"}, ["G(3)", "body.1", "3 groups"]),
        ({"body.1": "G(4", "body.0": "G(4)"}, ["not a valid block"]),
        ({"body.2": "G(4)", "body.2.branch.0": "G(4)"}, ["body.2.branch.0", "in two places"]),
    ],
)
def test_a_mistake_is_said_before_anything_is_replaced(blocks: dict[str, str], said: list[object]) -> None:
    kept = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=4)
    network = Net(spatial(), spatial(), Residual(nn.Sequential(spatial(), spatial())), *kept)
    with pytest.raises(MoonshineError, match=naming(*said)):
        apply(network, find_changes(network, {"body.0": "G(2)", **blocks}))
    assert not any(isinstance(layer, CheapConvolution) for layer in network.modules())


@pytest.mark.parametrize("block", ["S", "G(4)", "B(2)", "BG(2,M)"])
def test_the_end_of_of_a_place(block: str) -> None:
    class Swapped(nn.Module):
        """Registers the second convolution first."""

        def __init__(self) -> None:
            super().__init__()
            self.conv2, self.conv1 = spatial(8, 16), spatial()
            self.jump = nn.Conv2d(8, 16, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv2(self.conv1(x)) + self.jump(x)

    net = Net(Swapped(), spatial(16, 16), width=16)
    network = nn.ModuleDict({"net": net, "wrn": build("wrn-10-1"), "odd": Backwards()})
    paths = ("net.body.0", "net.body.1", "wrn.stage2.0", "odd.second")
    apply(network, find_changes(network, dict.fromkeys(paths, block)))
    for path in paths:
        place = network.get_submodule(path)
        inputs = 16 if path in ("net.body.1", "wrn.stage2.0") else 8
        assert end_of(network, path) is last_to_run(place, inputs)


def last_to_run(place: nn.Module, inputs: int) -> nn.Module:
    seen: list[nn.Module] = []
    for name, conv in place.named_modules():
        if isinstance(conv, nn.Conv2d) and name not in ("jump", "shortcut"):
            conv.register_forward_hook(lambda conv, *_: seen.append(conv))
    place(torch.zeros(1, inputs, 8, 8))
    return seen[-1]
