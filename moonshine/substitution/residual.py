"""Recognition of residual blocks in third-party modules: two convolutions between the block's input and its sum.

The block's forward pass is traced symbolically (torch.fx); a block that cannot be traced, or that does anything else,
is not recognised.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from moonshine.blocks.build import CheapConvolution
from moonshine.blocks.geometry import Geometry
from moonshine.substitution.tracing import ancestors, is_sum, trace

# These depend on the number of channels even if they have no weights that would show it.
NORMS = (nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)


@dataclass(frozen=True)
class ConvPair:
    """The two convolutions of a residual block and the batch norms between them, by path inside the block."""

    first: str
    second: str
    norms: tuple[str, ...]


def is_spatial(layer: nn.Module) -> bool:
    """Whether a module is an ordinary convolution larger than 1x1, which cheap blocks can replace."""
    return type(layer) is nn.Conv2d and max(layer.kernel_size) > 1 and layer.groups == 1


def in_blocks(module: nn.Module) -> set[str]:
    """The paths of what is inside a network's cheap blocks, which is theirs; S is an ordinary convolution."""
    return {
        f"{path}.{name}"
        for path, layer in module.named_modules()
        if isinstance(layer, CheapConvolution) and layer.kind != "S"
        for name, _ in layer.named_modules()
    }


def geometry_of(conv: nn.Module) -> Geometry:
    """Return the geometry of a torch convolution."""
    assert isinstance(conv, nn.Conv2d)
    return Geometry(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.padding_mode,
        bias=conv.bias is not None,
    )


def pairs(module: nn.Module) -> dict[str, ConvPair]:
    """Return the innermost residual blocks of a network: path -> pair of convolutions."""
    found: dict[str, ConvPair] = {}
    inside = {path: sum(map(is_spatial, layer.modules())) for path, layer in module.named_modules() if path}
    for path in sorted(inside, key=lambda path: -path.count(".")):
        taken = any(other.startswith(f"{path}.") for other in found)
        if inside[path] == 2 and not taken and (pair := recognise(module.get_submodule(path))):
            found[path] = pair
    return {path: found[path] for path in inside if path in found}


def recognise(block: nn.Module) -> ConvPair | None:
    """Return the pair of a residual block; None for any other module.

    The block is a sum of two branches: one has exactly two spatial convolutions, the first of which feeds the second
    through batch norms and layers without channels of their own (activations, dropout) and nothing else; the other has
    none. The convolutions have kernels of one size and, apart from their stride, keep the resolution, so that one can
    replace both.
    """
    graph = trace(block)
    if graph is None:
        return None
    layers = dict(block.named_modules())
    for node in graph.nodes:
        if is_sum(node):
            for branch, other in (node.args, node.args[::-1]):
                convolutions = _spatial(branch, layers)
                if len(convolutions) == 2 and not _spatial(other, layers):
                    return _pair(convolutions[0], convolutions[1], layers)
    return None


def shortcuts(module: nn.Module) -> set[str]:
    """Return the convolutions that are alone on a branch of a sum whose other branch has several in sequence.

    Layers before the fork are on neither branch. Found only if the network, or else the part of it, can be traced.
    """
    graph = trace(module)
    if graph is None:
        return {f"{name}.{path}" for name, child in module.named_children() for path in shortcuts(child)}
    layers = dict(module.named_modules())
    found: set[str] = set()
    for node in filter(is_sum, graph.nodes):
        one, other = (ancestors(branch) for branch in node.args)
        own = [
            {each for each in branch if isinstance(_layer(each, layers), nn.Conv2d)}
            for branch in (one - other, other - one)
        ]
        shorter, longer = sorted(own, key=len)
        if len(shorter) == 1 and any(ancestors(conv) & longer - {conv} for conv in longer):
            found |= {str(conv.target) for conv in shorter}
    return found


def _spatial(node: Any, layers: dict[str, nn.Module]) -> list[fx.Node]:
    """Return the spatial convolutions that a node's value depends on, in running order."""
    behind = ancestors(node)
    return [one for one in node.graph.nodes if one in behind and is_spatial(_layer(one, layers))]


def _layer(node: fx.Node, layers: dict[str, nn.Module]) -> nn.Module:
    return layers[str(node.target)] if node.op == "call_module" else nn.Identity()


def _pair(first: fx.Node, second: fx.Node, layers: dict[str, nn.Module]) -> ConvPair | None:
    norms: list[str] = []
    node = second.all_input_nodes[0]
    while node is not first:
        layer = _layer(node, layers)
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            norms.append(str(node.target))
        elif isinstance(layer, NORMS) or any(
            tensor.numel() > 1 for tensor in (*layer.parameters(), *layer.buffers())
        ):
            return None
        if node.op not in ("call_module", "call_function", "call_method") or len(node.users) != 1:
            return None
        if len(node.all_input_nodes) != 1:
            return None
        node = node.all_input_nodes[0]
    calls = Counter(str(each.target) for each in first.graph.nodes if each.op == "call_module")
    once = all(calls[str(path)] == 1 for path in (first.target, second.target, *norms))
    replaceable = _one_can_stand_for_both(layers[str(first.target)], layers[str(second.target)])
    if len(first.users) != 1 or not once or not replaceable:
        return None
    return ConvPair(str(first.target), str(second.target), tuple(reversed(norms)))


def _one_can_stand_for_both(first: Any, second: Any) -> bool:
    alike = first.kernel_size == second.kernel_size and first.out_channels == second.in_channels
    return alike and all(geometry_of(conv).keeps_resolution for conv in (first, second))
