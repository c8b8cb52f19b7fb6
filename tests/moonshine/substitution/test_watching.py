from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from moonshine.errors import MoonshineError
from moonshine.substitution.watching import record_calls, zero_pass
from tests.messages import naming
from tests.moonshine.odd_networks import SHAPE, Backwards, NamedOutputs, Net, Reused, Undecided, spatial


def hooks_of(module: nn.Module) -> int:
    return sum(len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in module.modules())


class Fails(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


def test_calls_are_in_the_order_in_which_they_run_not_in_which_they_are_registered() -> None:
    calls = record_calls(Backwards(), SHAPE)
    assert [call.path for call in calls] == ["first", "second", "last", ""]
    assert [call.shape for call in calls] == [(1, 8, 16, 16), (1, 8, 16, 16), (1, 5, 16, 16), (1, 5)]


def test_what_is_inside_a_module_starts_after_it_and_finishes_before_it() -> None:
    calls = {call.path: call for call in record_calls(Net(nn.ReLU()), SHAPE)}
    assert calls["body"].started < calls["body.0"].started < calls["body.0"].finished < calls["body"].finished
    assert len({time for call in calls.values() for time in (call.started, call.finished)}) == 2 * len(calls)


def test_every_call_of_a_module_that_runs_twice() -> None:
    calls = [call for call in record_calls(Reused(), SHAPE) if call.path == "body.0"]
    assert len(calls) == 2
    assert calls[0].finished < calls[1].started


def test_an_output_that_is_no_tensor_has_no_shape() -> None:
    assert record_calls(NamedOutputs(), SHAPE)[-1].shape is None


def test_a_forward_pass_that_depends_on_data_is_seen_for_an_image_of_zeros() -> None:
    paths = {call.path for call in record_calls(Undecided(), SHAPE)}
    assert "body.0" in paths
    assert "body.1" not in paths


@pytest.mark.parametrize("shape", [SHAPE, (1, 16, 16)], ids=["a pass", "a failure"])
def test_a_network_is_left_as_it_was(shape: tuple[int, ...]) -> None:
    frozen = nn.BatchNorm2d(8).eval()
    network = Net(spatial(), nn.BatchNorm2d(8), frozen)
    network.body[0].register_forward_hook(lambda *_: None)
    modes = [layer.training for layer in network.modules()]
    assert len(set(modes)) == 2
    state = {key: value.clone() for key, value in network.state_dict().items()}
    try:
        record_calls(network, shape)
    except MoonshineError:
        assert shape != SHAPE
    assert [layer.training for layer in network.modules()] == modes
    assert hooks_of(network) == 1
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_the_image_is_of_the_networks_type(kind: torch.dtype) -> None:
    assert zero_pass(Net(spatial()).to(kind), SHAPE).dtype == kind


@pytest.mark.parametrize(
    ("network", "shape", "said"),
    [
        (Net(), (1, 16, 16), ["1x16x16", "3 channels"]),
        (nn.Sequential(nn.Flatten(), nn.Linear(10, 2)), (3, 4, 4), ["3x4x4", "shapes"]),
        (Fails(AssertionError()), SHAPE, ["3x16x16", "AssertionError"]),
        (Fails(ValueError("too small\nby far")), SHAPE, ["3x16x16", "too small"]),
    ],
)
def test_an_input_that_the_network_refuses(
    network: nn.Module, shape: tuple[int, ...], said: list[object]
) -> None:
    with pytest.raises(MoonshineError, match=naming(*said)):
        record_calls(network, shape)


def test_a_message_of_ours_is_not_wrapped() -> None:
    with pytest.raises(MoonshineError, match=r"^taken as it is$"):
        record_calls(Fails(MoonshineError("taken as it is")), SHAPE)
