"""``moonshine.export_network`` of a network and loaders in Python."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import moonshine
from moonshine import MoonshineError
from moonshine.calls.export_network import _dataset
from moonshine.data.store import Dataset, Split
from tests.messages import names, naming

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
BYTES = torch.randint(256, (24, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
LABELS = torch.arange(24) % 4


def normalised(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std


def loader(images: Tensor | None = None, labels: Tensor = LABELS) -> DataLoader:
    images = normalised(BYTES.float() / 255) if images is None else images
    return DataLoader(TensorDataset(images, labels), batch_size=10)


def network(classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)
    )


def export(folder: Path, **changes: Any) -> Any:
    given = {
        "network": network(),
        "test": loader(),
        "mean": MEAN,
        "std": STD,
        "formats": "torch-export",
        **changes,
    }
    return moonshine.export_network(given.pop("network"), folder / "out", **given)


def test_a_file_has_the_error_of_the_network_on_the_loader(tmp_path: Path) -> None:
    own = network()
    found = export(tmp_path, network=own)
    images, labels = next(iter(DataLoader(loader().dataset, batch_size=24)))
    wrong = (own(images).argmax(1) != labels).float().mean().item()
    assert (found.error_pct, found.examples) == (pytest.approx(100 * wrong), 24)
    (receipt,) = found.receipts
    assert (receipt.format, receipt.error_pct) == ("torch-export", found.error_pct)
    program = torch.export.load(tmp_path / "out" / receipt.file)
    logits = program.module()(BYTES[:3].float() / 255)
    assert torch.allclose(logits, own(images[:3]), atol=1e-5)
    assert json.loads((tmp_path / "out" / "receipts.json").read_text())["examples"] == 24


def test_the_bytes_behind_normalised_images_are_found_again() -> None:
    data = _dataset(network(), loader(), loader(), 12, MEAN, STD, ["onnx-int8"])
    assert isinstance(data.test, Split)
    assert isinstance(data.train, Split)
    assert torch.equal(data.test.images, BYTES)
    assert torch.equal(data.test.labels, LABELS)
    assert torch.equal(data.train.images, BYTES[:12])


def test_label_maps_have_void_pixels() -> None:
    labels = torch.randint(4, (24, 8, 8))
    labels[:, 0] = -100
    data = _dataset(nn.Conv2d(3, 4, 1), loader(labels=labels), None, 1, MEAN, STD, ["onnx"])
    assert data.scored_classes == 4
    assert isinstance(data.test, Split)
    assert data.test.labels.dtype == torch.uint8
    assert (data.test.labels[:, 0] == 255).all()


def test_the_structure_of_a_network_of_moonshine_is_found(tmp_path: Path) -> None:
    teacher = moonshine.build("wrn-10-1", num_classes=4)
    teacher.eval()
    for student in (teacher, moonshine.build("wrn-10-1", "G(4)", num_classes=4)):
        found = export(tmp_path, network=student, formats="safetensors")
        assert [receipt.format for receipt in found.receipts] == ["safetensors"]
        folder = tmp_path / "out"
        (folder / "network.safetensors").rename(folder / "weights.safetensors")
        loaded = moonshine.load(folder)
        images = normalised(BYTES[:2].float() / 255)
        assert torch.equal(loaded(images), student.eval()(images))
        (folder / "weights.safetensors").rename(folder / "network.safetensors")


def test_a_substituted_student_of_a_known_network_is_known_too(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    from moonshine.structures.build import from_structure
    from moonshine.structures.structure import Structure

    described = Structure(network="torchvision/resnet18", num_classes=4, in_channels=3, blocks={})
    student = moonshine.substitute(from_structure(described), {"layer1.0": "G(4)"})
    found = export(tmp_path, network=student, formats="safetensors")
    assert found.receipts[0].max_logit_difference < 1e-5
    assert json.loads((tmp_path / "out" / "structure.json").read_text())["blocks"] == {"layer1.0": "G(4)"}


@pytest.mark.parametrize("changed", [False, True])
def test_a_network_of_unknown_structure_has_no_safetensors_file(
    changed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = network()
    if changed:  # what it was built from no longer describes it
        own = moonshine.build("wrn-10-1", num_classes=10)
        own.head = nn.Linear(64, 4)
    monkeypatch.setattr("moonshine.calls.export_network.write_export", lambda *_, formats, **__: formats)
    with caplog.at_level(logging.WARNING, "moonshine"):
        chosen = export(tmp_path, network=own, formats=None, calibration=loader())
    assert chosen[:3] == ["torch-export", "onnx", "onnx-int8"]
    assert names(caplog.text, "safetensors", "state_dict()", type(own).__name__)
    monkeypatch.undo()
    with pytest.raises(MoonshineError, match=naming("structure", "none")):
        export(tmp_path, network=own, formats="safetensors")


def test_a_dataset_has_its_own_normalisation(stripes: Dataset, tmp_path: Path) -> None:
    own = moonshine.build("wrn-10-1", num_classes=2, in_channels=1)
    found = export(tmp_path, network=own, test=stripes, mean=None, std=None)
    assert found.examples == len(stripes.test)
    with pytest.raises(MoonshineError, match=naming("mean", "dataset")):
        export(tmp_path, network=own, test=stripes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean": None, "std": None}, ["test", "-2.00", "0 to 1", "mean and std"]),
        ({"mean": (0.5,) * 3, "std": (0.6,) * 3}, ["test", "0 to 1", "(0.5, 0.5, 0.5)"]),
        ({"test": loader(BYTES.float() / 255)}, ["test", "0.00", "not normalised", "(0.4, 0.5, 0.6)"]),
        ({"test": loader(BYTES)}, ["images", "torch.uint8"]),
        ({"test": iter(())}, ["test", "tuple_iterator", "length"]),
        ({"test": 7}, ["test", "int", "Dataset"]),
        ({"test": loader(labels=LABELS + 1)}, ["labels", "1 to 4", "0 to 3"]),
        ({"mean": (0.5,)}, ["mean", "(0.5,)", "3 channels"]),
        ({"std": (0.2, 0.25, 0.0)}, ["std", "0.0", "above 0"]),
        ({"class_names": ["a", "b"]}, ["(2, 4)", "(2, 2)"]),
        ({"formats": "onnx-int8"}, ["calibration", "None", "onnx-int8"]),
        ({"formats": "tiff"}, ["formats", "tiff", "onnx"]),
        ({"network": nn.Identity()}, ["labels", "(10,)", "(10, 8, 8)"]),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_anything_is_written(
    changes: dict[str, Any], said: list[object], tmp_path: Path
) -> None:
    with pytest.raises(MoonshineError, match=naming(*said)):
        export(tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []
