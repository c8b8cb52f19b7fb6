"""Symbolic traces (torch.fx) of a module's forward pass, where one can be had without running it."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

SUMS = (operator.add, operator.iadd, torch.add)


def trace(module: nn.Module) -> fx.Graph | None:
    """The graph of a module's eval forward pass, batch norms and convolutions one node each; None without one.

    The module is left as it was: a forward pass that keeps something on itself would keep what only tracing knows.
    """
    before = [(layer, dict(vars(layer))) for layer in module.modules()]
    try:
        return _Tracer().trace(module.eval())
    except Exception:  # a forward pass that cannot be traced: whatever it raises
        return None
    finally:
        for layer, attributes in before:
            vars(layer).clear()
            vars(layer).update(attributes)


def is_sum(node: fx.Node) -> bool:
    """Whether a node adds two others."""
    adds = (
        node.target in SUMS
        if node.op == "call_function"
        else node.op == "call_method" and node.target in ("add", "add_")
    )
    return adds and len(node.args) == 2 and all(isinstance(arg, fx.Node) for arg in node.args)


def ancestors(node: Any) -> set[fx.Node]:
    """A node and all that its value depends on."""
    seen: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if here not in seen:
            seen.add(here)
            waiting += here.all_input_nodes
    return seen


class _Tracer(fx.Tracer):
    """Treats batch norms and convolutions of any make as one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.modules.batchnorm._BatchNorm | nn.Conv2d) or super().is_leaf_module(
            m, module_qualified_name
        )
