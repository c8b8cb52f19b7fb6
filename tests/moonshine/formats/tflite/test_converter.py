"""The real converter, where one is installed: `MOONSHINE_TFLITE=FOLDER pytest FILE`, half a CPU minute a test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from moonshine.errors import MoonshineError
from moonshine.formats.about import About
from moonshine.formats.sizes import exported_bytes
from moonshine.formats.source import Source, plain_copy
from moonshine.formats.tflite import environment, int8
from moonshine.formats.tflite.int8 import Int8File, to_int8
from moonshine.formats.tflite.tflm import run_in_tflm
from tests.moonshine.formats.tflite.tiny import ABOUT, CONVERTED, images, source

pytest.importorskip("ai_edge_litert")
pytest.importorskip("tflite_micro")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
FOLDER = Path(os.environ["MOONSHINE_TFLITE"])
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no converter: MOONSHINE_TFLITE names its folder for the tests"
)

PIXELS = to_int8((images(30, seed=1).float() / 255).numpy())
SCALAR = replace(ABOUT, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The last file as the converter left it."""
    path = tmp_path / "raw.tflite"

    def keep(program: Path, calibration: Path, file: Path, input_range: tuple[float, float]) -> None:
        environment.convert(program, calibration, file, input_range)
        shutil.copyfile(file, path)

    monkeypatch.setattr(int8, "convert", keep)
    return path


def as_trained(network: nn.Module) -> nn.Module:
    """Return the network with batch norms that are neither 0 nor 1."""
    generator = torch.Generator().manual_seed(1)
    for tensor in network.state_dict().values():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def encoded(network: nn.Module, about: About) -> bytes:
    return int8.encode(Source(plain_copy(network), about, images(256).split(32)))


def file_of(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "network-int8.tflite"
    path.write_bytes(content)
    return path


def opened(path: Path) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))


def float_logits(network: nn.Module, about: About, pixels: Tensor) -> np.ndarray:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (about.mean, about.std))
    with torch.no_grad():
        return network((pixels.float() / 255 - mean) / std).numpy()


def test_it_gives_the_stored_file(
    installed: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOONSHINE_TFLITE", str(FOLDER))
    real = int8.encode(source())
    installed(f'cp "{CONVERTED}" "$5"')
    assert int8.encode(source()) == real


def test_a_file_with_more_than_256_kib_of_weights_as_planned(raw: Path, tmp_path: Path) -> None:
    def network() -> nn.Module:
        wide = nn.Conv2d(32, 1024, 3, stride=2, padding=1, bias=False)
        stem = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 3))
        return nn.Sequential(
            stem, nn.BatchNorm2d(32), nn.ReLU(), wide, nn.BatchNorm2d(1024), nn.ReLU(), *pooled
        )

    planned = [exported_bytes(each, network(), SCALAR.input_shape, SCALAR) for each in ("tflite-int8", "ram")]
    trained = as_trained(network())
    path = file_of(tmp_path, encoded(trained, SCALAR))
    assert any(buffer.offset > 1 for buffer in opened(raw).buffers)
    assert not any(buffer.offset or buffer.size for buffer in opened(path).buffers)
    named = [tensor.name for tensor in opened(path).subgraphs[0].tensors if tensor.name]
    assert named == [b"images", b"logits"]
    found, arena = run_in_tflm(path, PIXELS)
    np.testing.assert_array_equal(found, Int8File.open(path, 1, reference=True).run(PIXELS))
    assert [path.stat().st_size, arena.total] == planned
    expected = float_logits(trained, SCALAR, images(30, seed=1))
    assert np.abs(Int8File.open(path, 1).logits(found) - expected).max() < 0.05 * np.ptp(expected)
    try:
        garbage, _ = run_in_tflm(raw, PIXELS)
    except MoonshineError:
        return
    assert (garbage != found).any()


def test_maps_of_logits(tmp_path: Path) -> None:
    class Segmenting(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.interpolate(super().forward(images), scale_factor=2, mode="bilinear")

    layers = (nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1))
    network = as_trained(Segmenting(*layers))
    about = replace(SCALAR, scored_classes=3)
    path = file_of(tmp_path, encoded(network, about))
    found, _ = run_in_tflm(path, PIXELS)
    file = Int8File.open(path, 1, reference=True)
    np.testing.assert_array_equal(found, file.run(PIXELS))
    expected = float_logits(network, about, images(30, seed=1))
    assert found.shape == (30, 8, 8, 3)
    assert np.abs(file.logits(found) - expected).max() < 0.05 * np.ptp(expected)
