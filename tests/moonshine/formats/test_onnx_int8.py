"""ONNX Runtime's quantised graph after our changes: batch norms as convolutions, zero points once, same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moonshine.formats import onnx_int8
from moonshine.formats.onnx import finish
from moonshine.formats.sizes import exported_bytes
from moonshine.formats.source import Source
from tests.moonshine.formats.tflite.tiny import ABOUT, images, logits, source, tiny

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def given() -> Source:
    return source()


@pytest.fixture(scope="module")
def content(given: Source) -> bytes:
    return onnx_int8.encode(given)


def answers(content: bytes, path: Path) -> np.ndarray:
    path.write_bytes(content)
    return onnx_int8.ONNX_INT8.open(path, 1, ())((images(20, seed=1).float() / 255).numpy())


def test_batch_norms_that_nothing_folds_are_quantised_convolutions(
    given: Source, content: bytes, tmp_path: Path
) -> None:
    exported = [node.op_type for node in given.onnx.graph.node]
    assert exported.count("BatchNormalization") == 2
    nodes = onnx.load_from_string(content).graph.node
    assert "BatchNormalization" not in {node.op_type for node in nodes}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) == exported.count("Conv") + 2
    writers = {name: node.op_type for node in nodes for name in node.output}
    assert {writers[name] for node in convolutions for name in node.input} == {"DequantizeLinear"}
    expected = logits(images(20, seed=1)).numpy()
    assert np.abs(answers(content, tmp_path / "int8.onnx") - expected).max() < 0.05 * np.ptp(expected)


def test_equal_zero_points_of_weights_are_stored_once(given: Source, content: bytes, tmp_path: Path) -> None:
    graph = onnx.load_from_string(content).graph
    vectors = [
        (tensor.data_type, tensor.raw_data) for tensor in graph.initializer if not any(tensor.raw_data)
    ]
    vectors = [(kind, data) for kind, data in vectors if len(data) > 1]
    assert len(vectors) == len(set(vectors))
    unshared = finish(onnx_int8.quantise(given.onnx, given.calibration), ABOUT, short_names=True)
    assert len(content) < len(unshared)
    np.testing.assert_array_equal(
        answers(content, tmp_path / "shared.onnx"), answers(unshared, tmp_path / "unshared.onnx")
    )


def test_the_size_is_known_before_training(content: bytes) -> None:
    assert exported_bytes("onnx-int8", tiny(), ABOUT.input_shape, ABOUT) == len(content)


def test_a_node_without_inputs_is_no_batch_norm() -> None:
    """Such as a random tensor, which no pass before folds into a constant."""
    noise = onnx.helper.make_node("RandomNormal", [], ["noise"], shape=[1])
    shown = onnx.helper.make_tensor_value_info("noise", onnx.TensorProto.FLOAT, [1])
    model = onnx.helper.make_model(onnx.helper.make_graph([noise], "g", [], [shown]))
    before = model.SerializeToString(deterministic=True)
    onnx_int8._rewrite_batch_norms(model)
    assert model.SerializeToString(deterministic=True) == before
