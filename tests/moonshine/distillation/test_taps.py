from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from moonshine.distillation.taps import record
from moonshine.errors import MoonshineError
from tests.messages import naming


class Network(nn.Module):
    """Three named stages, the second of which can be left out; logits only."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.stage2 = nn.Conv2d(4, 4, 3)
        self.pair = nn.MultiheadAttention(4, 1)
        self.skip = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage1(x)
        x = x if self.skip else self.stage2(x)
        return x.mean((2, 3))


def hooks_of(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network()


def test_records_what_each_path_returned(network: Network) -> None:
    x = torch.randn(2, 3, 8, 8)
    with record(network, ("stage2", "stage1.0")) as taps:
        assert taps == {}
        logits = network(x)
    first = network.stage1[0](x)
    second = network.stage2(network.stage1(x))
    assert set(taps) == {"stage2", "stage1.0"}
    torch.testing.assert_close(taps["stage1.0"], first)
    torch.testing.assert_close(taps["stage2"], second)
    torch.testing.assert_close(logits, second.mean((2, 3)))


def test_gradient_flows_through_a_tap(network: Network) -> None:
    with record(network, ["stage1"]) as taps:
        network(torch.randn(2, 3, 8, 8))
    taps["stage1"].sum().backward()
    assert network.stage1[0].weight.grad is not None
    assert network.stage2.weight.grad is None


def test_each_forward_starts_empty(network: Network) -> None:
    with record(network, ["stage1", "stage2"]) as taps:
        network(torch.randn(2, 3, 8, 8))
        before = taps["stage1"]
        network.skip = True
        network(torch.randn(5, 3, 8, 8))
        assert set(taps) == {"stage1"}
        assert (len(before), len(taps["stage1"])) == (2, 5)


def test_hooks_are_gone_afterwards_also_after_an_error(network: Network) -> None:
    with record(network, ["stage1", "stage2"]) as taps:
        assert hooks_of(network) == 3
        network(torch.randn(2, 3, 8, 8))
    assert hooks_of(network) == 0
    network(torch.randn(7, 3, 8, 8))
    assert len(taps["stage1"]) == 2
    with pytest.raises(RuntimeError), record(network, ["stage1"]):
        network(torch.randn(2, 5, 8, 8))
    assert hooks_of(network) == 0


def test_two_recordings_do_not_mix(network: Network) -> None:
    with record(network, ["stage1"]) as outer:
        with record(network, ["stage2"]) as inner:
            network(torch.randn(2, 3, 8, 8))
        network(torch.randn(3, 3, 8, 8))
    assert (set(outer), set(inner)) == ({"stage1"}, {"stage2"})
    assert (len(outer["stage1"]), len(inner["stage2"])) == (3, 2)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("stage3", ["stage3", "Network", "stage2"]),
        ("blocks", ["blocks", "Network", "stage1", "stage1.0"]),
    ],
)
def test_an_unknown_path_lists_close_ones(network: Network, path: str, message: list[object]) -> None:
    with pytest.raises(MoonshineError, match=naming(*message)), record(network, ["stage1", path]):
        pass
    assert hooks_of(network) == 0


def test_an_output_that_is_no_tensor_is_refused(network: Network) -> None:
    x = torch.randn(2, 4)
    with (
        pytest.raises(MoonshineError, match=naming("MultiheadAttention", "tuple", "tensor")),
        record(network.pair, [""]),
    ):
        network.pair(x, x, x)
