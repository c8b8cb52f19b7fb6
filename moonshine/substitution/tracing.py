"""Symbolic traces (torch.fx) of a module's forward pass."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

SUMS = (operator.add, operator.iadd, torch.add)


def trace(module: nn.Module) -> fx.Graph | None:
    """Trace a module's eval forward pass, batch norms and convolutions as one node each; None if that fails.

    The module's attributes are restored: a forward pass that stores something on it would store a proxy.
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
    """Return a node and all nodes that its value depends on."""
    seen: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if here not in seen:
            seen.add(here)
            waiting += here.all_input_nodes
    return seen


class _Tracer(fx.Tracer):
    """Tracer for which every batch norm and convolution, subclasses included, is one node."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.modules.batchnorm._BatchNorm | nn.Conv2d) or super().is_leaf_module(
            m, module_qualified_name
        )
