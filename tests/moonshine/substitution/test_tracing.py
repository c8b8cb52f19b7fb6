from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn

from moonshine.substitution.tracing import ancestors, is_sum, trace
from tests.moonshine.odd_networks import Net, Remembers, Undecided, spatial


class TrainsDifferently(nn.Module):
    """Can be traced as it evaluates, not as it trains."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (1 if self.training and x.sum() > 0 else 0)


def test_convolutions_and_batch_norms_of_any_make_are_one_step() -> None:
    class Own(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    graph = trace(Net(spatial(), Own(8)))
    assert graph is not None
    assert [str(node.target) for node in graph.nodes if node.op == "call_module"] == [
        "stem",
        "body.0",
        "body.1",
        "head",
    ]


def test_a_forward_pass_that_depends_on_data_has_no_graph() -> None:
    assert trace(Undecided()) is None


def test_it_is_the_eval_pass_and_the_mode_stays() -> None:
    module = nn.Sequential(TrainsDifferently(), nn.ReLU().eval())
    assert trace(module) is not None
    assert [layer.training for layer in module.modules()] == [True, True, False]


def test_nothing_of_the_trace_stays_on_the_module() -> None:
    block = Remembers()
    assert trace(block) is not None
    assert not hasattr(block, "inner")
    block(torch.zeros(1, 8, 4, 4))
    assert trace(block) is not None
    assert isinstance(block.inner, Tensor)
    assert set(copy.deepcopy(Remembers()).state_dict()) == set(block.state_dict())


class Sums(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a = x + y
        b = torch.add(a, x, alpha=2)
        b += y
        c = b.add(a)
        d = c + 1
        return d * c


def test_sums_of_two_values_and_what_a_value_depends_on() -> None:
    graph = trace(Sums())
    assert graph is not None
    nodes = {node.name: node for node in graph.nodes}
    assert [node.op for node in filter(is_sum, graph.nodes)] == ["call_function"] * 3 + ["call_method"]
    first = next(filter(is_sum, graph.nodes))
    assert ancestors(first) == {first, nodes["x"], nodes["y"]}
    assert ancestors(nodes["x"]) == {nodes["x"]}
    assert all(isinstance(node, fx.Node) for node in ancestors(nodes["output"]))
