"""INT8 ONNX graphs, by ONNX Runtime's own quantiser."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from moonshine.data import AnySplit, at_once, inputs
from moonshine.errors import MoonshineError, first_line
from moonshine.formats.quiet import quiet

if TYPE_CHECKING:
    from onnx import ModelProto

BATCH = 32


def calibration_images(train: AnySplit, count: int) -> Tensor:
    """``count`` images of the training set, evenly spaced over it, uint8; all of them where it has fewer.

    MoonshineError for a count below 1.
    """
    if count < 1:
        raise MoonshineError(f"calibration_images: found {count}; allowed: from 1")
    chosen = torch.linspace(0, len(train) - 1, min(count, len(train))).round().long()
    return next(inputs(train, [chosen]))


def quantise(model: ModelProto, images: Tensor) -> ModelProto:
    """The graph with weights and activations in 8 bits: static, QDQ, the ranges those on ``images`` (uint8).

    Weights are int8, symmetric, per output channel, and of 7 bits (``reduce_range``): with all 8, x86 CPUs without
    VNNI overflow their 16-bit sums, and one file would give different answers on different machines (6 to 12 % of
    WRN-16-1's predictions on CIFAR-10 flipped, 1.5 to 3.5 % with 7). Activations are uint8, their ranges minimum to
    maximum: percentiles and entropy took three to nine times as long there and changed the error by less than 0.1
    points. MoonshineError for a graph that ONNX Runtime cannot quantise.
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


def _reader(images: Tensor) -> Any:
    """What the quantiser asks for one batch after another."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = iter(images.split(at_once(BATCH, *images.shape[2:])))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"images": (batch.float() / 255).numpy()}

    return Reader()


@contextmanager
def _ort_quiet() -> Iterator[None]:
    """Only errors of ONNX Runtime, whose sessions inside the quantiser take no options."""
    import onnxruntime  # type: ignore[import-untyped]

    onnxruntime.set_default_logger_severity(3)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(2)
