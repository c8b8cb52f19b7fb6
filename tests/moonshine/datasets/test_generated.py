"""Generated data: the same from the same seed, of the sizes asked for, and easy to tell apart."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from moonshine.data.batches import evaluation_images
from moonshine.data.encoded import EncodedSplit
from moonshine.data.store import VOID, AnySplit, Split, load_dataset
from moonshine.datasets.generated import GeneratedImages, GeneratedJpegs, GeneratedMaps
from moonshine.datasets.kind import DataSection, Normalisation
from moonshine.preparation.prepare import prepare_dataset

NORMALISATION = Normalisation(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def config_of(kind: str, **changes: Any) -> DataSection:
    options = {
        "classes": 5,
        "size": 16,
        "train": 42,
        "test": 20,
        "seed": 0,
        "validation": 0.25,
        "split_seed": 0,
    }
    section = {"images": GeneratedImages, "pictures": GeneratedJpegs}[kind]
    return section(name="generated", kind=kind, normalisation=NORMALISATION, **{**options, **changes})


def pixels(split: AnySplit) -> Tensor:
    return next(evaluation_images(split, [torch.arange(len(split))])).float()


@pytest.mark.parametrize("kind", ["images", "pictures"])
def test_the_same_seed_gives_the_same_bytes(kind: str, tmp_path: Path) -> None:
    first = prepare_dataset(config_of(kind), tmp_path / "a")
    assert prepare_dataset(config_of(kind), tmp_path / "b") == first
    assert prepare_dataset(config_of(kind, seed=2**40), tmp_path / "c").sha256 != first.sha256
    assert first.counts["train"] + first.counts["validation"] == 42
    assert first.counts["test"] == 20


@pytest.mark.parametrize(("kind", "made"), [("images", Split), ("pictures", EncodedSplit)])
def test_classes_are_told_apart_by_their_colours(kind: str, made: type, tmp_path: Path) -> None:
    prepare_dataset(config_of(kind, train=100), tmp_path)
    data = load_dataset(tmp_path)
    assert isinstance(data.train, made)
    assert data.input_shape == (3, 16, 16)
    assert data.num_classes == 5
    colours = pixels(data.train).mean((2, 3))
    centres = torch.stack([colours[data.train.labels == label].mean(0) for label in range(5)])
    nearest = torch.cdist(pixels(data.test).mean((2, 3)), centres).argmin(1)
    assert (nearest == data.test.labels).float().mean() > 0.7


def test_pictures_are_jpegs_of_many_sizes_that_become_inputs_as_imagenets(tmp_path: Path) -> None:
    description = prepare_dataset(config_of("pictures", size=56, train=5, test=5, validation=0.0), tmp_path)
    assert description.resize_rule["resize"] == 64
    split = load_dataset(tmp_path).train
    assert isinstance(split, EncodedSplit)
    opened = [Image.open(io.BytesIO(split.read(i))) for i in range(5)]
    assert {picture.format for picture in opened} == {"JPEG"}
    assert len({picture.size for picture in opened}) == 5
    assert all(56 <= side <= 112 for picture in opened for side in picture.size)


def maps(**changes: Any) -> GeneratedMaps:
    options = {"kind": "maps", "classes": 4, "size": 16, "train": 5, "test": 2, "seed": 0}
    return GeneratedMaps(**{"name": "generated", "validation": 0.0, "split_seed": 0, **options, **changes})


def test_scenes_are_twice_as_wide_and_their_last_row_is_void(tmp_path: Path) -> None:
    prepare_dataset(maps(), tmp_path)
    dataset = load_dataset(tmp_path)
    assert isinstance(dataset.train, Split)
    assert dataset.train.images.shape == (5, 3, 16, 32)
    assert (dataset.train.labels[:, -1] == VOID).all()
    assert (dataset.train.labels[:, :-1] < 4).all()
    assert all(share > 0 for share in dataset.class_shares)


def test_a_seed_gives_the_same_maps_and_another_others(tmp_path: Path) -> None:
    first, second, other = (
        prepare_dataset(maps(seed=seed), tmp_path / name).sha256
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == second
    assert first["data.safetensors"] != other["data.safetensors"]


def test_a_class_is_known_by_its_colour(tmp_path: Path) -> None:
    prepare_dataset(maps(), tmp_path)
    dataset = load_dataset(tmp_path)
    assert isinstance(dataset.train, Split)
    pixels = dataset.train.images.permute(0, 2, 3, 1).float()
    known = dataset.train.labels != VOID
    means = torch.stack([pixels[dataset.train.labels == label].mean(0) for label in range(4)])
    nearest = torch.cdist(pixels[known], means).argmin(1)
    assert (nearest == dataset.train.labels[known]).float().mean() > 0.95
