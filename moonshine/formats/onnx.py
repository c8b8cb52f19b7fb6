"""The graph as ONNX, run by ONNX Runtime: simplified, and the same bytes for the same network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonshine.formats.format import FileRunner, Floats, Format

if TYPE_CHECKING:
    from onnx import ModelProto

    from moonshine.formats.about import About
    from moonshine.formats.source import Source
    from moonshine.networks.models import Trust

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
RUNTIME = ("onnxruntime",)
IR_VERSION = 8
"""The format of the file around the graph: the first with this opset, so every ONNX Runtime since 1.14 reads it.

torch's exporter writes 10, for what it adds for debuggers and `finish` removes; ONNX Runtime before 1.18 refuses that.
"""


def encode(source: Source) -> bytes:
    """Return the file, its tensors named as in the network."""
    return finish(source.onnx, source.about, short_names=False)


def open_file(path: Path, threads: int, trust: Trust) -> FileRunner:
    """Return the file as a session of ONNX Runtime on the CPU."""
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(pixels: Floats) -> Floats:
        return session.run(None, {"images": pixels})[0]

    return run


def finish(graph_of: ModelProto, about: About, short_names: bool) -> bytes:
    """Return the file of a graph, without what only a debugger reads, with the metadata.

    Source paths, notes of the exporter, inferred shapes and node names go: up to a third of a small network's file.
    Tensors keep their names unless ``short_names``, which numbers them.
    """
    from onnx import ModelProto
    from onnx.numpy_helper import from_array, to_array

    model = ModelProto()
    model.CopyFrom(graph_of)
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
    if short_names and is_flat(model):
        _number(graph)
    for key, text in about.texts().items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    return model.SerializeToString(deterministic=True)


def is_flat(model: ModelProto) -> bool:
    """Return whether all nodes are in the one graph: no functions, loops or branches, which also read its tensors."""
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    return not model.functions and not any(each.HasField("g") or each.graphs for each in attributes)


def _number(graph: Any) -> None:
    """Replace the names of tensors inside the graph by hexadecimal numbers."""
    names = {"": "", **{value.name: value.name for value in (*graph.input, *graph.output)}}
    fixed = len(names)

    def short(name: str) -> str:
        return names.setdefault(name, f"{len(names) - fixed:x}")

    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for node in graph.node:
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]


ONNX = Format(
    name="onnx",
    file="network.onnx",
    title="ONNX",
    encode=encode,
    open=open_file,
    runtime=RUNTIME,
    packages=ONNX_PACKAGES,
)
