"""The graph that becomes an INT8 file: what of a network its operators can do in 8 bits without losing accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from moonshine.errors import MoonshineError, first_few, first_line
from moonshine.formats.about import About
from moonshine.formats.quiet import quiet

aten = torch.ops.aten
_CONVOLUTIONS = (aten.conv2d.default, aten.conv_transpose2d.input, aten.convolution.default)


def pixel_range(about: About) -> tuple[float, float]:
    """Return what pixels 0 and 255 are in the file's input.

    An input in 8 bits has one scale and one zero point. They take the normalisation in where it is the same for all
    channels; the zero point is a whole number, which moves the mean by at most half a step of 1/255. Else the input is
    in [0, 1], and the graph normalises it.
    """
    (mean, std), *others = set(zip(about.mean, about.std, strict=True))
    return (0.0, 1.0) if others or not 0 <= mean <= 1 else ((0 - mean) / std, (1 - mean) / std)


def to_quantisable(network: nn.Module, about: About) -> ExportedProgram:
    """Trace the network for one image in `pixel_range`, with what 8-bit operators do badly rewritten.

    The normalisation, and every batch norm that cannot be folded into the convolution before it, become depthwise 1x1
    convolutions: their weights have a scale per channel, where the subtraction and multiplication that the converter
    makes of them have one for all. Linear layers of feature vectors become 1x1 convolutions, for what runtimes do with
    those is the same to the bit. MoonshineError names what cannot be traced, and transposed convolutions.
    """
    # The converter's own message would be a page of its intermediate language.
    if found := [path for path, layer in network.named_modules() if isinstance(layer, nn.ConvTranspose2d)]:
        raise MoonshineError(
            f"tflite-int8: found transposed convolutions ({first_few(found)}), which the converter does not take; "
            "allowed: a network without any"
        )
    images = torch.zeros(1, *about.input_shape)
    if pixel_range(about) == (0.0, 1.0):
        network = nn.Sequential(_normalisation(about.mean, about.std), network)
    with quiet():
        try:
            graph = torch.export.export(network.eval(), (images,)).module()
            assert isinstance(graph, GraphModule)
            _rewrite_batch_norms(graph)
            _rewrite_linear_layers(graph)
            graph.recompile()
            program = torch.export.export(graph, (images,))
        except Exception as error:  # whatever a third-party forward pass raises when it is traced
            raise MoonshineError(f"tflite-int8: the network cannot be traced: {first_line(error)}") from error
    program.example_inputs = None  # they would be stored pickled
    return program


def _normalisation(mean: Sequence[float], std: Sequence[float]) -> nn.Conv2d:
    with torch.random.fork_rng(devices=[]):
        layer = nn.Conv2d(len(mean), len(mean), 1, groups=len(mean)).requires_grad_(False)
    means, scales = torch.tensor(mean), 1 / torch.tensor(std)
    layer.weight.copy_(scales.view(-1, 1, 1, 1))
    layer.bias.copy_(-means * scales)  # type: ignore[union-attr]
    return layer


def _rewrite_batch_norms(graph: GraphModule) -> None:
    """Turn batch norms that follow no convolution of their own into depthwise 1x1 convolutions, in place."""
    for node in graph.graph.find_nodes(op="call_function", target=aten.batch_norm.default):
        images, *tensors = node.args[:5]
        assert isinstance(images, Node)
        folds = images.target in _CONVOLUTIONS and len(images.users) == 1
        if folds or images.meta["val"].dim() != 4:
            continue
        weight, bias, mean, var = (_value(graph, each) for each in tensors)
        scale = (1.0 if weight is None else weight) / (var + node.args[7]).sqrt()
        shift = (0.0 if bias is None else bias) - mean * scale
        with graph.graph.inserting_before(node):
            held = [
                _held(graph, f"{node.name}_{name}", value)
                for name, value in (("weight", scale.view(-1, 1, 1, 1)), ("bias", shift))
            ]
            convolution = graph.graph.call_function(
                aten.conv2d.default, (images, *held, [1, 1], [0, 0], [1, 1], len(shift))
            )
        node.replace_all_uses_with(convolution)
        graph.graph.erase_node(node)


def _rewrite_linear_layers(graph: GraphModule) -> None:
    """Turn linear layers of vectors, (1, features), into 1x1 convolutions, in place.

    With a scale per channel, FULLY_CONNECTED is rounded twice in TensorFlow Lite Micro and once in LiteRT's reference
    kernel, which moved one logit in a thousand by a step; their convolutions agree.
    """
    for node in graph.graph.find_nodes(op="call_function", target=aten.linear.default):
        vectors, weight, *bias = node.args
        assert isinstance(vectors, Node)
        if vectors.meta["val"].dim() != 2:
            continue
        kernels = _value(graph, weight)[:, :, None, None]
        with graph.graph.inserting_before(node):
            held = _held(graph, f"{node.name}_weight", kernels)
            maps = graph.graph.call_function(aten.view.default, (vectors, [1, -1, 1, 1]))
            convolution = graph.graph.call_function(aten.conv2d.default, (maps, held, *bias))
            found = graph.graph.call_function(aten.view.default, (convolution, [1, len(kernels)]))
        node.replace_all_uses_with(found)
        graph.graph.erase_node(node)


def _value(graph: GraphModule, node: object) -> Any:
    """Return the tensor that a node stands for, or None."""
    if not isinstance(node, Node):
        return None
    assert isinstance(node.target, str)
    owner, _, name = node.target.rpartition(".")
    return getattr(graph.get_submodule(owner), name).detach()


def _held(graph: GraphModule, name: str, value: Tensor) -> Node:
    graph.register_buffer(name, value.contiguous())
    return graph.graph.get_attr(name)
