"""A network that is being exported, and the graphs that the formats have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from moonshine.blocks.layers import GeneratedConv
from moonshine.errors import MoonshineError, cannot_take, first_line
from moonshine.formats.about import About
from moonshine.formats.quiet import quiet
from moonshine.networks.copying import copy_of

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
"""What torch's exporter writes without converting."""


class Normalised(nn.Module):
    """A network that takes pixels in [0, 1], float (n, C, H, W), and returns logits, of each image or of each pixel."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.std)


@dataclass(frozen=True)
class Source:
    """What a file is written from. The graphs are made once, for all formats: copy them before changing them."""

    network: nn.Module
    """As `plain_copy` returns it."""
    about: About
    calibration: Sequence[Tensor] = ()
    """Batches of training images (n, C, H, W), uint8, for the ranges of quantised activations."""

    @cached_property
    def program(self) -> ExportedProgram:
        """The traced graph of the network with its normalisation; see `to_program`.

        Weights that the network generates are constants: computing them would need what they are made with, such as
        indices, which takes more bytes than they do.
        """
        return to_program(with_dense_weights(self.network), self.about)

    @cached_property
    def onnx(self) -> ModelProto:
        """The graph in ONNX: ``images`` (n, C, H, W) -> ``logits``, batch norms folded where they follow.

        MoonshineError names the operator that ONNX cannot express.
        """
        program = self.program
        with quiet():
            try:
                exported = torch.onnx.export(
                    program,
                    dynamo=True,
                    input_names=["images"],
                    output_names=["logits"],
                    opset_version=OPSET,
                    verbose=False,
                )
            except Exception as error:  # the exporter's exceptions have no public base
                raise MoonshineError(f"onnx: the network cannot be exported: {_reason(error)}") from error
        assert exported is not None
        return exported.model_proto


def plain_copy(network: nn.Module) -> nn.Module:
    """Return a copy on the CPU in fp32, eval mode and the contiguous memory layout; the network is left as it is."""
    copied = copy_of(network).to("cpu", torch.float32).eval().requires_grad_(False)
    for tensor in (*copied.parameters(), *copied.buffers()):
        # contiguous() keeps the strides of channels_last where a size is 1, which cost an ONNX file transposes
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    return copied


def with_dense_weights(network: nn.Module) -> nn.Module:
    """Return the network, or a copy with ordinary convolutions where it generates weights."""
    if not any(isinstance(layer, GeneratedConv) for layer in network.modules()):
        return network
    copied = copy_of(network)
    for parent in list(copied.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, GeneratedConv):
                setattr(parent, name, layer.dense().eval().requires_grad_(False))
    return copied


def check_exported_logits(network: nn.Module, about: About) -> None:
    """MoonshineError unless two images give logits of the shape that ``about`` says, in one tensor."""
    shape, wanted = about.input_shape, about.logits_shape(2)
    try:
        with torch.no_grad():
            logits = network(torch.zeros(2, *shape))
    except Exception as error:  # whatever a third-party forward pass raises
        raise cannot_take(shape, error) from error
    found = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if found != wanted:
        per = "class and pixel" if about.is_dense else "class"
        raise MoonshineError(
            f"the network returns {found} for 2 images; allowed: logits {wanted}, one per {per}"
        )


def to_program(network: nn.Module, about: About) -> ExportedProgram:
    """Trace the network with its normalisation, for any batch size; without source lines and paths.

    MoonshineError names what cannot be traced.
    """
    module = Normalised(network, about.mean, about.std).eval()
    images = torch.zeros(2, *about.input_shape)  # a batch of 1 would be taken for a constant
    with quiet():
        try:
            program = torch.export.export(module, (images,), dynamic_shapes=({0: Dim("n")},))
        except Exception as error:  # whatever a third-party forward pass raises when it is traced
            raise MoonshineError(
                f"torch-export: the network cannot be traced for any batch size: {first_line(error)}"
            ) from error
    program.example_inputs = None  # they would be stored pickled
    for graph in program.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, GraphModule) else ():
            for key in ("stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "from_node"):
                node.meta.pop(key, None)
    return program


def _reason(error: BaseException) -> str:
    """Return what the innermost cause says: the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
