"""From a network to its INT8 file, with the file that the converter made of the tiny network, and what goes wrong."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from moonshine.data.store import Split
from moonshine.errors import MoonshineError
from moonshine.export import microcontroller
from moonshine.export.receipts import Exported, TflmReceipt
from moonshine.export.writing import write_export, write_files
from moonshine.files import read_json
from moonshine.formats.format import NotConverted
from moonshine.formats.formats import FORMATS, chosen_formats
from moonshine.formats.sizes import exported_bytes
from moonshine.formats.tflite import environment, int8
from moonshine.formats.tflite.tflm import ROUNDED_TO, SPARE, run_in_tflm
from tests.messages import names, naming
from tests.moonshine.formats.tflite.tiny import ABOUT, Tiny, images, logits, source, tiny

TEST = Split(images(40, seed=2), torch.arange(40) % 3)


def export(folder: Path) -> Exported:
    return write_export(
        tiny(),
        folder / "out",
        ABOUT,
        train=TEST,
        test=TEST,
        calibration=8,
        tolerance=1,
        formats=["tflite-int8"],
    )


def test_the_file_answers_as_the_network_does(converter: Path, tmp_path: Path) -> None:
    path = tmp_path / "network-int8.tflite"
    path.write_bytes(int8.encode(source()))
    (converter / "bin" / "python").unlink()
    assert int8.encode(source()) == path.read_bytes()  # remembered
    found = int8.open_file(path, 1, ())((TEST.images.float() / 255).numpy())
    expected = logits(TEST.images).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.05 * np.ptp(expected)


def test_bytes_and_ram_are_of_one_conversion(converter: Path) -> None:
    pytest.importorskip("tflite_micro")
    size = exported_bytes("tflite-int8", Tiny(), ABOUT.input_shape, ABOUT)
    assert size == len(int8.encode(source()))
    (converter / "bin" / "python").unlink()
    ram, interpreter = (
        exported_bytes(each, Tiny(), ABOUT.input_shape, ABOUT) for each in ("ram", "ram of the interpreter")
    )
    assert 0 < interpreter < ram


def test_an_export_has_receipts_from_both_runtimes(converter: Path, tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    exported = export(tmp_path)
    (receipt,) = exported.receipts
    wrong = (logits(TEST.images).argmax(1) != TEST.labels).float().mean()
    assert receipt.error_pct == pytest.approx(100 * float(wrong), abs=5)
    assert receipt.bytes == (tmp_path / "out" / "network-int8.tflite").stat().st_size
    assert isinstance(receipt.tflm, TflmReceipt)
    assert receipt.tflm.examples == 40
    assert receipt.tflm.error_pct == pytest.approx(receipt.error_pct, abs=5)
    assert receipt.tflm.max_steps_apart <= 5
    parts = receipt.tflm.activation_bytes + receipt.tflm.interpreter_bytes
    assert parts + SPARE <= receipt.tflm.arena_bytes < parts + SPARE + ROUNDED_TO
    assert receipt.tflm.activation_bytes >= 2 * 8 * 8 * 8
    check_the_example(tmp_path / "out" / "classify_micro")
    stored = read_json(tmp_path / "out" / "receipts.json")
    assert stored["receipts"][0]["tflm"]["arena_bytes"] == receipt.tflm.arena_bytes


STUB = """#pragma once
#include <cstdint>
#include <cstddef>
enum TfLiteStatus { kTfLiteOk };
struct TfLiteTensor { struct { int8_t* int8; } data; };
namespace tflite {
struct Model;
inline const Model* GetModel(const void*) { return nullptr; }
template <unsigned N> struct MicroMutableOpResolver {
  void AddAdd(); void AddConv2D(); void AddDepthwiseConv2D(); void AddMean();
  void AddReshape(); void AddTranspose();
};
struct MicroInterpreter {
  template <unsigned N>
  MicroInterpreter(const Model*, const MicroMutableOpResolver<N>&, uint8_t*, size_t);
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor* input(size_t);
  TfLiteTensor* output(size_t);
};
}
"""
"""The interfaces of TensorFlow Lite Micro that the example uses, as its headers declare them."""


def check_the_example(example: Path) -> None:
    """It says what the network says of an image, and compiles."""
    pixels = TEST.images[0].permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(example / "image.png")
    said = subprocess.run(
        [sys.executable, example / "run.py", example / "image.png"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    probabilities = logits(TEST.images[:1]).softmax(1)[0]
    assert said[0] == ABOUT.class_names[int(probabilities.argmax())]
    assert float(said[1].rstrip("%")) == pytest.approx(100 * float(probabilities.max()), abs=3)
    if not (compiler := shutil.which("g++")):
        return
    for header in (
        "micro/micro_interpreter.h",
        "micro/micro_mutable_op_resolver.h",
        "schema/schema_generated.h",
    ):
        path = example / "tensorflow/lite" / header
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STUB if "interpreter" in header else "")
    strict = ["-std=c++17", "-Wall", "-Werror", "-fsyntax-only"]
    subprocess.run([compiler, *strict, "-I", str(example), str(example / "main.cc")], check=True)


def test_answers_that_differ_between_the_runtimes_fail_the_export(
    converter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tflite_micro")

    def wrong(path: Path, given: np.ndarray) -> object:
        found, arena = run_in_tflm(path, given)
        found[0, 0] ^= 64
        return found, arena

    monkeypatch.setattr(microcontroller, "run_in_tflm", wrong)
    with pytest.raises(NotConverted, match=naming("network-int8.tflite", "1 of 120", 64, "allowed: none")):
        export(tmp_path)
    assert not (tmp_path / "out").exists()


def test_without_tensorflow_lite_micro_the_receipt_says_so(
    converter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microcontroller, "tflm_is_missing", lambda: "not installed")
    exported = export(tmp_path)
    assert exported.receipts[0].tflm == "not installed"


def test_a_missing_converter_is_named_and_the_other_formats_are_written(
    no_converter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MoonshineError, match=naming("tflite-int8", no_converter, "moonshine setup-tflite")):
        chosen_formats(["tflite-int8"])
    with caplog.at_level(logging.WARNING):
        written = {format.name for format in chosen_formats()}
    assert "tflite-int8" not in written
    assert len(written) == 4
    (message,) = caplog.messages
    assert "network-int8.tflite is not written" in message


def test_a_converter_that_fails_is_told_and_the_other_formats_are_written(
    installed: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    installed("""echo Loading; echo '{"error": "no lowering for aten.cdist"}'; exit 1""")
    with pytest.raises(NotConverted, match=naming("tflite-int8", "no lowering for aten.cdist")):
        write_files(tiny(), tmp_path, ABOUT, images(4), ["tflite-int8"])
    with patch.dict(FORMATS), caplog.at_level(logging.WARNING):
        for name in ("safetensors", "onnx", "onnx-int8"):  # one other is enough
            del FORMATS[name]
        assert write_files(tiny(), tmp_path, ABOUT, images(4)) == ["torch-export"]
    assert [path.name for path in tmp_path.glob("network*")] == ["network.pt2"]
    (message,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert names(message, "network-int8.tflite", "no lowering for aten.cdist")


def test_a_converter_that_dies_is_told(installed: Callable[[str], Path]) -> None:
    installed("echo Illegal instruction >&2; exit 132")
    with pytest.raises(MoonshineError, match=naming("tflite-int8", "Illegal instruction")):
        int8.encode(source())


def test_a_converter_of_another_version_is_refused(converter: Path) -> None:
    (converter / "installed-lock.sha256").write_text("0" * 64)
    with pytest.raises(MoonshineError, match=naming(converter, "another version", "moonshine setup-tflite")):
        chosen_formats(["tflite-int8"])


def test_images_that_are_not_of_8_bits_are_refused(converter: Path) -> None:
    given = replace(source(), calibration=[torch.rand(2, 3, 8, 8)])
    with pytest.raises(MoonshineError, match=naming("tflite-int8", "torch.float32", "torch.uint8")):
        int8.encode(given)


def test_the_set_up_installs_what_the_lock_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, program = tmp_path / "lock", tmp_path / "check.py"
    lock.write_text("")
    program.write_text("import sys; assert sys.argv[1:] == ['--check']; assert sys.prefix != sys.base_prefix")
    monkeypatch.setattr(environment, "LOCK", lock)
    monkeypatch.setattr(environment, "PROGRAM", program)
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "made"))
    assert environment.missing_converter()
    environment.set_up(environment.environment_folder())
    assert environment.missing_converter() is None
    program.write_text("import nothing_like_it")
    with pytest.raises(MoonshineError, match=naming(tmp_path / "made", "check.py", "nothing_like_it")):
        environment.set_up(environment.environment_folder())
    assert environment.missing_converter()


def test_logits_per_pixel_have_the_classes_second() -> None:
    found = np.arange(-12, 12, dtype=np.int8).reshape(1, 2, 3, 4)
    values = int8.Int8File(lambda images: images, 0.5, -12).logits(found)
    assert values.shape == (1, 4, 2, 3)
    assert values[0, :, 1, 2].tolist() == [10.0, 10.5, 11.0, 11.5]
