"""ONNX graphs of networks: simplified, and the same bytes for the same network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from moonshine.errors import MoonshineError, first_line
from moonshine.formats.about import About
from moonshine.formats.quiet import quiet

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
"""What torch's exporter writes without converting."""

IR_VERSION = 8
"""The format of the file around the graph: the first with this opset, so every ONNX Runtime since 1.14 reads it.

torch's exporter writes 10, for what it adds for debuggers and `finish` removes; ONNX Runtime before 1.18 refuses that.
"""


def to_onnx(program: ExportedProgram) -> ModelProto:
    """The graph in ONNX: ``images`` (n, C, H, W) -> ``logits``, batch norms folded where they follow.

    MoonshineError names the operator that ONNX cannot express.
    """
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


def _reason(error: BaseException) -> str:
    """What the innermost cause says: the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def finish(model: ModelProto, about: About, short_names: bool) -> bytes:
    """The file: without what only a debugger reads, with what it says about itself.

    Source paths, notes of the exporter, inferred shapes and node names go: up to a third of a small network's file.
    Tensors keep their names unless ``short_names``, which numbers them.
    """
    from onnx.numpy_helper import from_array, to_array

    graph = model.graph
    model.doc_string = graph.doc_string = ""
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    for node in graph.node:
        node.name = ""
    for tensor in graph.initializer:
        if not tensor.raw_data:  # numbers as text of varying length: a file's size would depend on them
            tensor.CopyFrom(from_array(to_array(tensor), tensor.name))
    used = {node.domain for node in graph.node} | {""}
    opsets = [opset for opset in model.opset_import if opset.domain in used or model.functions]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    model.ir_version = IR_VERSION
    if short_names and not model.functions and not any(map(_holds_graph, graph.node)):
        _number(graph)
    for key, text in about.texts().items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    return model.SerializeToString(deterministic=True)


def _holds_graph(node: Any) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


def _number(graph: Any) -> None:
    """Replaces the names of tensors inside the graph by hexadecimal numbers."""
    names = {"": "", **{value.name: value.name for value in (*graph.input, *graph.output)}}
    fixed = len(names)

    def short(name: str) -> str:
        return names.setdefault(name, f"{len(names) - fixed:x}")

    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for node in graph.node:
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
