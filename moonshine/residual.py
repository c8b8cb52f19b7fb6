"""Recognising a residual block in anybody's module: two convolutions between the block's input and its sum.

Needs no cooperation from the block: its forward pass is traced symbolically (torch.fx), and a block that cannot be
traced, or that does anything else, is not recognised.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

SUMS = (operator.add, operator.iadd, torch.add)


@dataclass(frozen=True)
class Pair:
    """The two convolutions of a residual block and the batch norms between them, by path inside the block."""

    first: str
    second: str
    norms: tuple[str, ...]


def is_spatial(layer: nn.Module) -> bool:
    """Whether a module is an ordinary convolution of more than one pixel: what cheap blocks replace."""
    return type(layer) is nn.Conv2d and max(layer.kernel_size) > 1 and layer.groups == 1


def pairs(module: nn.Module) -> dict[str, Pair]:
    """The residual blocks of a network, innermost first found: path -> its pair of convolutions."""
    found: dict[str, Pair] = {}
    inside = {path: sum(map(is_spatial, layer.modules())) for path, layer in module.named_modules() if path}
    for path in sorted(inside, key=lambda path: -path.count(".")):
        taken = any(other.startswith(f"{path}.") for other in found)
        if inside[path] == 2 and not taken and (pair := recognise(module.get_submodule(path))):
            found[path] = pair
    return {path: found[path] for path in inside if path in found}


def recognise(block: nn.Module) -> Pair | None:
    """The pair of a residual block; None for a module that is no such block.

    A sum of two branches: one has exactly two spatial convolutions, the first of which feeds the second through batch
    norms and layers without channels of their own (activations, dropout) and nothing else; the other has none.
    Both convolutions keep the resolution but for their stride, so that one can stand for both.
    """
    try:
        graph = _Tracer().trace(block)
    except Exception:  # a forward pass that cannot be traced: whatever it raises
        return None
    layers = dict(block.named_modules())
    for node in graph.nodes:
        if _is_sum(node):
            for branch, other in (node.args, node.args[::-1]):
                convolutions = _spatial(branch, layers)
                if len(convolutions) == 2 and not _spatial(other, layers):
                    return _pair(convolutions[0], convolutions[1], layers)
    return None


class _Tracer(fx.Tracer):
    """Treats batch norms and convolutions of any make as one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.modules.batchnorm._BatchNorm | nn.Conv2d) or super().is_leaf_module(
            m, module_qualified_name
        )


def _is_sum(node: fx.Node) -> bool:
    adds = (
        node.target in SUMS
        if node.op == "call_function"
        else node.op == "call_method" and node.target in ("add", "add_")
    )
    return adds and len(node.args) == 2 and all(isinstance(arg, fx.Node) for arg in node.args)


def _spatial(node: Any, layers: dict[str, nn.Module]) -> list[fx.Node]:
    """The spatial convolutions that a node's value depends on, in the order in which they run."""
    seen: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if here not in seen:
            seen.add(here)
            waiting += here.all_input_nodes
    return [one for one in node.graph.nodes if one in seen and is_spatial(_layer(one, layers))]


def _layer(node: fx.Node, layers: dict[str, nn.Module]) -> nn.Module:
    return layers[str(node.target)] if node.op == "call_module" else nn.Identity()


def _pair(first: fx.Node, second: fx.Node, layers: dict[str, nn.Module]) -> Pair | None:
    norms: list[str] = []
    node = second.all_input_nodes[0]
    while node is not first:
        layer = _layer(node, layers)
        if isinstance(layer, nn.BatchNorm2d):
            norms.append(str(node.target))
        elif any(tensor.numel() > 1 for tensor in (*layer.parameters(), *layer.buffers())):
            return None
        if node.op not in ("call_module", "call_function", "call_method") or len(node.users) != 1:
            return None
        if len(node.all_input_nodes) != 1:
            return None
        node = node.all_input_nodes[0]
    alone = len(first.users) == 1 and first.target != second.target
    keeps = all(_keeps_resolution(layers[str(conv.target)]) for conv in (first, second))
    return Pair(str(first.target), str(second.target), tuple(reversed(norms))) if alone and keeps else None


def _keeps_resolution(conv: Any) -> bool:
    if isinstance(conv.padding, str):
        return bool(conv.padding == "same")
    return all(
        2 * padding == dilation * (kernel - 1)
        for padding, dilation, kernel in zip(conv.padding, conv.dilation, conv.kernel_size, strict=True)
    )
