"""Files that TensorFlow Lite Micro refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moonshine.errors import MoonshineError
from moonshine.formats.tflite.tflm import run_in_tflm
from tests.messages import naming
from tests.moonshine.formats.tflite.tiny import CONVERTED

pytest.importorskip("tflite_micro")
flatbuffers = pytest.importorskip("flatbuffers")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")


def test_an_operator_that_it_lacks_is_named(tmp_path: Path) -> None:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(CONVERTED.read_bytes(), 0))
    (mean,) = [code for code in model.operatorCodes if code.builtinCode == schema.BuiltinOperator.MEAN]
    mean.builtinCode = schema.BuiltinOperator.SEGMENT_SUM
    mean.deprecatedBuiltinCode = schema.BuiltinOperator.SEGMENT_SUM
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "network-int8.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(MoonshineError, match=naming("network-int8.tflite", "SEGMENT_SUM")):
        run_in_tflm(path, np.zeros((1, 8, 8, 3), np.int8))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network-int8.tflite"
    path.write_bytes(bytes(64))
    with pytest.raises(MoonshineError, match=naming("network-int8.tflite", "cannot run it")):
        run_in_tflm(path, np.zeros((1, 8, 8, 3), np.int8))
