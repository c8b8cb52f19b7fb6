"""The flatbuffer of a ``.tflite`` file: everything inside it that a device needs, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

METADATA = "moonshine"
"""Name under which the file holds what it says about itself, as JSON."""


def finish_flatbuffer(content: bytes, about: str) -> bytes:
    """Return the file with its weights inside, tensors without names, and ``about`` as metadata.

    From 256 KiB on the quantiser writes weights behind the flatbuffer, at offsets: TensorFlow Lite Micro reads such a
    file as if they were empty, and answers garbage without an error. Names of tensors, which only a debugger reads, are
    a third to a half of a small file; the input is called ``images``, the output ``logits``.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:  # 0: none; 1: a placeholder of the format
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
    for graph in model.subgraphs:
        graph.name = None
        for tensor in graph.tensors:
            tensor.name = None
            if tensor.quantization is not None:
                tensor.quantization.min = tensor.quantization.max = None
        for name, (index,) in (("images", graph.inputs), ("logits", graph.outputs)):
            graph.tensors[index].name = name
    for signature in model.signatureDefs or ():
        for name, (tensor,) in (("images", signature.inputs), ("logits", signature.outputs)):
            tensor.name = name
    model.description = None
    model.metadataBuffer = []
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = METADATA, len(model.buffers)
    buffer.data = np.frombuffer(about.encode(), np.uint8)
    buffer.offset = buffer.size = 0
    model.metadata = [entry]
    model.buffers.append(buffer)
    _share_buffers(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def operators_of(content: bytes) -> list[str]:
    """Return the kinds of operators in a file, by their names in the format, as ``CONV_2D``."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    return sorted({names[max(each.builtinCode, each.deprecatedBuiltinCode)] for each in model.operatorCodes})


def _share_buffers(model: Any) -> None:
    """Keep one of each buffer that is used, and the empty one that comes first."""
    kept, positions = [model.buffers[0]], {b"": 0}
    owners = [*(tensor for graph in model.subgraphs for tensor in graph.tensors), *model.metadata]
    for owner in owners:
        data = model.buffers[owner.buffer].data
        content = b"" if data is None else bytes(bytearray(data))
        if content not in positions:
            positions[content] = len(kept)
            kept.append(model.buffers[owner.buffer])
        owner.buffer = positions[content]
    model.buffers = kept
