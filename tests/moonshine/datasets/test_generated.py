"""Generated data: the same from the same seed, of the sizes asked for, and easy to tell apart."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from moonshine.config.data import Generated, Normalisation
from moonshine.data import AnySplit, EncodedSplit, Split, inputs, load
from moonshine.datasets import prepare

NORMALISATION = Normalisation(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def config_of(kind: str, **changes: Any) -> Generated:
    options = {
        "classes": 5,
        "size": 16,
        "train": 42,
        "test": 20,
        "seed": 0,
        "validation": 0.25,
        "split_seed": 0,
    }
    return Generated(name="generated", kind=kind, normalisation=NORMALISATION, **{**options, **changes})  # type: ignore[arg-type]


def pixels(split: AnySplit) -> Tensor:
    return next(inputs(split, [torch.arange(len(split))])).float()


@pytest.mark.parametrize("kind", ["images", "pictures"])
def test_the_same_seed_gives_the_same_bytes(kind: str, tmp_path: Path) -> None:
    first = prepare(config_of(kind), tmp_path / "a")
    assert prepare(config_of(kind), tmp_path / "b") == first
    assert prepare(config_of(kind, seed=2**40), tmp_path / "c")["sha256"] != first["sha256"]
    assert first["counts"]["train"] + first["counts"]["validation"] == 42
    assert first["counts"]["test"] == 20


@pytest.mark.parametrize(("kind", "made"), [("images", Split), ("pictures", EncodedSplit)])
def test_classes_are_told_apart_by_their_colours(kind: str, made: type, tmp_path: Path) -> None:
    prepare(config_of(kind, train=100), tmp_path)
    data = load(tmp_path)
    assert isinstance(data.train, made)
    assert data.input_shape == (3, 16, 16)
    assert data.num_classes == 5
    colours = pixels(data.train).mean((2, 3))
    centres = torch.stack([colours[data.train.labels == label].mean(0) for label in range(5)])
    nearest = torch.cdist(pixels(data.test).mean((2, 3)), centres).argmin(1)
    assert (nearest == data.test.labels).float().mean() > 0.7


def test_pictures_are_jpegs_of_many_sizes_that_become_inputs_as_imagenets(tmp_path: Path) -> None:
    description = prepare(config_of("pictures", size=56, train=5, test=5, validation=0.0), tmp_path)
    assert description["resize_rule"]["resize"] == 64
    split = load(tmp_path).train
    assert isinstance(split, EncodedSplit)
    opened = [Image.open(io.BytesIO(split.read(i))) for i in range(5)]
    assert {picture.format for picture in opened} == {"JPEG"}
    assert len({picture.size for picture in opened}) == 5
    assert all(56 <= side <= 112 for picture in opened for side in picture.size)
