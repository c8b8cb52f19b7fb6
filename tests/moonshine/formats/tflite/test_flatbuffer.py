"""What becomes of the converter's file: weights inside, names gone, the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moonshine.formats.tflite.flatbuffer import finish_flatbuffer
from moonshine.formats.tflite.int8 import Int8File, to_int8
from moonshine.formats.tflite.tflm import run_in_tflm
from tests.moonshine.formats.tflite.tiny import ABOUT, CONVERTED, images

flatbuffers = pytest.importorskip("flatbuffers")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

INPUT = to_int8((images(20, seed=1).float() / 255).numpy())


def opened(content: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def with_weights_outside(content: bytes) -> bytes:
    """Return the file as the quantiser writes a large one: data of its large buffers behind the flatbuffer."""
    model = opened(content)
    large = [buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data) > 200]
    assert large
    data = [bytes(bytearray(buffer.data)).ljust(-(-len(buffer.data) // 16) * 16) for buffer in large]
    packed = b""
    for _ in range(2):  # first to learn how long the flatbuffer is
        end = -(-len(packed) // 16) * 16 or 16
        for buffer, each in zip(large, data, strict=True):
            buffer.data, buffer.offset, buffer.size = None, end, len(each)
            end += len(each)
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        packed = bytes(builder.Output())
    return packed.ljust(-(-len(packed) // 16) * 16) + b"".join(data)


def answers(content: bytes, path: Path) -> np.ndarray:
    path.write_bytes(content)
    return Int8File.open(path, 1, reference=True).run(INPUT)


def test_names_are_gone_and_answers_are_not(tmp_path: Path) -> None:
    converted = CONVERTED.read_bytes()
    finished = finish_flatbuffer(converted, "{}")
    assert b"ChannelLastIO" in converted
    assert b"ChannelLastIO" not in finished
    assert len(finished) < 0.7 * len(converted)
    assert [tensor.name for tensor in opened(finished).subgraphs[0].tensors if tensor.name] == [
        b"images",
        b"logits",
    ]
    before = answers(converted, tmp_path / "before.tflite")
    np.testing.assert_array_equal(answers(finished, tmp_path / "after.tflite"), before)


def test_weights_are_inside(tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    converted = CONVERTED.read_bytes()
    expected = answers(converted, tmp_path / "inside.tflite")
    outside = with_weights_outside(converted)
    np.testing.assert_array_equal(answers(outside, tmp_path / "outside.tflite"), expected)
    wrong, _ = run_in_tflm(tmp_path / "outside.tflite", INPUT)
    assert (wrong != expected).any()  # without an error: what this is for
    finished = finish_flatbuffer(outside, "{}")
    assert not any(buffer.offset for buffer in opened(finished).buffers)
    (tmp_path / "finished.tflite").write_bytes(finished)
    found, _ = run_in_tflm(tmp_path / "finished.tflite", INPUT)
    np.testing.assert_array_equal(found, expected)


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    model = opened(finish_flatbuffer(CONVERTED.read_bytes(), ABOUT.text()))
    (entry,) = model.metadata
    assert entry.name == b"moonshine"
    assert bytes(bytearray(model.buffers[entry.buffer].data)).decode() == ABOUT.text()
    assert "größer" not in ABOUT.text()  # JSON in ASCII, for any reader


def test_equal_buffers_are_stored_once() -> None:
    model = opened(finish_flatbuffer(CONVERTED.read_bytes(), "{}"))
    held = [bytes(bytearray(buffer.data)) for buffer in model.buffers if buffer.data is not None]
    assert len(held) == len(set(held))
    assert model.buffers[0].data is None
