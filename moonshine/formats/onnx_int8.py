"""The ONNX graph in 8 bits, by ONNX Runtime's own quantiser."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonshine.errors import MoonshineError, first_line
from moonshine.formats.format import Format
from moonshine.formats.onnx import ONNX_PACKAGES, RUNTIME, finish, is_flat, open_file
from moonshine.formats.quiet import quiet

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto
    from torch import Tensor

    from moonshine.formats.source import Source


def encode(source: Source) -> bytes:
    """Return the quantised graph, its tensors numbered."""
    quantised = quantise(source.onnx, source.calibration)
    if is_flat(quantised):
        _share_zero_points(quantised)
    return finish(quantised, source.about, short_names=True)


def quantise(model: ModelProto, images: Sequence[Tensor]) -> ModelProto:
    """Return the graph with weights and activations in 8 bits: static, QDQ, ranges from batches of uint8 images.

    Weights are int8, symmetric, per output channel, and of 7 bits (``reduce_range``): with all 8, x86 CPUs without
    VNNI overflow their 16-bit sums, and one file would give different answers on different machines (6 to 12 % of
    WRN-16-1's predictions on CIFAR-10 flipped, 1.5 to 3.5 % with 7). Activations are uint8, their ranges minimum to
    maximum: percentiles and entropy took three to nine times as long there and changed the error by less than 0.1
    points. Batch norms that follow no convolution of their own become depthwise 1x1 convolutions, which are quantised
    too. MoonshineError for a graph that ONNX Runtime cannot quantise.
    """
    from onnx import load, save
    from onnxruntime.quantization import (  # type: ignore[import-untyped]
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
        shape_inference,
    )

    with tempfile.TemporaryDirectory() as folder, quiet(), _ort_quiet():
        plain, prepared, quantised = (
            Path(folder, f"{name}.onnx") for name in ("plain", "prepared", "quantised")
        )
        try:
            # Folds what batch norms the exporter left after a convolution, and infers shapes.
            save(model, plain)
            shape_inference.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
            rewritten = load(prepared)
            if is_flat(rewritten):
                _rewrite_batch_norms(rewritten)
            save(rewritten, prepared)
            quantize_static(
                prepared,
                quantised,
                _reader(images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
            return load(quantised)
        except Exception as error:  # the quantiser's exceptions have no common base
            raise MoonshineError(
                f"onnx-int8: the network cannot be quantised: {first_line(error)}"
            ) from error


def _rewrite_batch_norms(model: ModelProto) -> None:
    """Turn every batch norm of 2D maps into a depthwise 1x1 convolution, in place.

    ONNX Runtime computes batch norms in fp32 between conversions from and to 8 bits. As convolutions they made WRNs of
    the digits and CIFAR-10 studies a tenth faster, and their errors as often smaller as larger.
    """
    import numpy as np
    from onnx.helper import get_node_attr_value, make_node
    from onnx.numpy_helper import from_array, to_array

    graph = model.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info}
    for node in graph.node:
        if node.op_type != "BatchNormalization":
            continue
        images, *tensors = node.input
        if ranks.get(images) != 4 or not values.keys() >= set(tensors):
            continue
        weight, bias, mean, var = (to_array(values[name]) for name in tensors)
        scale = weight / np.sqrt(var + np.float32(get_node_attr_value(node, "epsilon")))
        names = [f"{node.output[0]}_{part}" for part in ("scale", "shift")]
        for name, value in zip(names, (scale.reshape(-1, 1, 1, 1), bias - mean * scale), strict=True):
            graph.initializer.append(from_array(value, name))
        node.CopyFrom(make_node("Conv", [images, *names], [node.output[0]], group=len(scale)))
    _drop_unread(graph)


def _share_zero_points(model: ModelProto) -> None:
    """Store equal zero points of weights and biases once, in place: a vector of zeros per layer otherwise.

    Those of activations, and scales, are left alone: which of them are equal depends on the trained weights, and a
    file's size has to be known before training.
    """
    from onnx.numpy_helper import to_array

    graph = model.graph
    values = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 1}
    names: dict[tuple[int, bytes], str] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and (tensor := values.get(node.input[2])) is not None:
            key = tensor.data_type, to_array(tensor).tobytes()
            node.input[2] = names.setdefault(key, tensor.name)
    _drop_unread(graph)


def _drop_unread(graph: GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    for index, tensor in reversed(list(enumerate(graph.initializer))):
        if tensor.name not in read:
            del graph.initializer[index]


def _reader(images: Sequence[Tensor]) -> Any:
    """Return what the quantiser asks for one batch after another."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"images": (batch.float() / 255).numpy()}

    return Reader()


@contextmanager
def _ort_quiet() -> Iterator[None]:
    """Let ONNX Runtime log errors only: its sessions inside the quantiser take no options."""
    import onnxruntime  # type: ignore[import-untyped]

    onnxruntime.set_default_logger_severity(3)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(2)


ONNX_INT8 = Format(
    name="onnx-int8",
    file="network-int8.onnx",
    title="INT8 ONNX",
    encode=encode,
    open=open_file,
    runtime=RUNTIME,
    packages=ONNX_PACKAGES,
    is_exact=False,
)
