"""The sections of the data: each mistake is answered with the key, the value and what is allowed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from moonshine import MoonshineError
from moonshine.config.study import Study, parse_study
from moonshine.datasets.generated import GeneratedJpegs
from moonshine.datasets.image_folder import EncodedImageFolder, ImageFolder
from moonshine.datasets.imagenet import Imagenet
from tests.messages import naming

DIGITS = yaml.safe_load((Path(__file__).parents[3] / "studies" / "digits.yaml").read_text())
FOLDER = {
    "name": "image_folder",
    "root": "flowers",
    "sha256": 64 * "0",
    "resize": 72,
    "crop": 64,
    "validation": 0.1,
    "split_seed": 0,
}
ONE_CHANNEL = {"mean": [0.5], "std": [0.25]}


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
FILES = {
    "name": "picture_files",
    "root": "flowers",
    "resize": 256,
    "crop": 224,
    "validation": 0.0,
    "split_seed": 0,
    "normalisation": IMAGENET,
}
GENERATED = {
    "name": "generated",
    "kind": "pictures",
    "classes": 4,
    "size": 32,
    "train": 64,
    "test": 32,
    "seed": 0,
    "validation": 0.0,
    "split_seed": 0,
    "normalisation": IMAGENET,
}
CROPS = {"crop_padding": 0, "flip": True, "resized_crop": {"scale": [0.08, 1.0], "ratio": [0.75, 1.3333]}}


def study(data: dict[str, Any], augment: dict[str, Any] | None = None) -> Study:
    content = {**copy.deepcopy(DIGITS), "data": data}
    return parse_study({**content, "augment": augment} if augment else content)


def test_an_image_folder() -> None:
    data = study(FOLDER).data
    assert isinstance(data, ImageFolder)
    assert (data.resize, data.crop, data.normalisation) == (72, 64, None)
    study({**FOLDER, "crop": 72})


def test_every_kind_may_state_its_normalisation() -> None:
    rest = {"validation": 0.0, "split_seed": 0, "normalisation": ONE_CHANNEL}
    for data in (
        {**FOLDER, **rest},
        {**DIGITS["data"], **rest},
        {"name": "cifar10", "root": "data", "size": 32, **rest},
        {"name": "arrays", "path": "a.npz", "sha256": 64 * "0", "size": 64, **rest},
    ):
        found = study(data).data.normalisation
        assert found is not None
        assert (found.mean, found.std) == ([0.5], [0.25])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"crop": 73}, ["crop", "73", "8 to 72", "resize"]),
        ({"crop": 4}, ["data.crop", "4", "8"]),
        ({"resize": None}, ["data.resize", "None", "integer"]),
        ({"size": 64}, ["data.size", "unknown", "resize, crop"]),
        ({"sha256": "abc"}, ["data.sha256", "abc"]),
        ({"normalisation": {"mean": [0.5]}}, ["data.normalisation.std", "missing"]),
        ({"normalisation": {"mean": [], "std": []}}, ["data.normalisation.mean", "[]"]),
        ({"normalisation": {"mean": [0.5, 0.5], "std": [0.2]}}, ["mean", "2 values", "std"]),
        (
            {"normalisation": {"mean": [123.7], "std": [58.4]}},
            ["data.normalisation.mean.0", "123.7", "data.normalisation.std.0", "58.4"],
        ),
        (
            {"normalisation": {"mean": [0.5], "std": [0]}},
            ["data.normalisation.std.0", "found 0"],
        ),
        ({"normalisation": {**ONE_CHANNEL, "sdt": 1}}, ["data.normalisation.sdt", "unknown", "std"]),
    ],
)
def test_a_mistake_names_the_key_the_value_and_what_is_allowed(
    changes: dict[str, Any], said: list[object]
) -> None:
    with pytest.raises(MoonshineError, match=naming(*said)):
        study({**FOLDER, **changes})


@pytest.mark.parametrize("key", [key for key in FOLDER if key != "name"])
def test_no_key_has_a_default(key: str) -> None:
    with pytest.raises(MoonshineError, match=naming(f"data.{key}", "missing")):
        study({name: value for name, value in FOLDER.items() if name != key})


def test_channels_are_three_or_left_out() -> None:
    with pytest.raises(MoonshineError, match=naming("data.channels", "1", "3")):
        study({**DIGITS["data"], "channels": 1})


@pytest.mark.parametrize(
    ("data", "section"),
    [(FILES, EncodedImageFolder), ({**FILES, "name": "imagenet"}, Imagenet), (GENERATED, GeneratedJpegs)],
)
def test_pictures_that_are_decoded_as_they_are_needed(data: dict[str, Any], section: type) -> None:
    found = study(data, CROPS)
    assert isinstance(found.data, section)
    assert found.data.is_encoded


def test_generated_images_are_decoded_ahead() -> None:
    data = {name: value for name, value in GENERATED.items() if name != "normalisation"}
    assert not study({**data, "kind": "images"}, {"crop_padding": 1, "flip": True}).data.is_encoded


@pytest.mark.parametrize(
    ("data", "augment", "said"),
    [
        (FILES, {"crop_padding": 0, "flip": True}, ["augment.resized_crop", "missing", "picture_files"]),
        (
            FILES,
            {**CROPS, "crop_padding": 4},
            ["augment.crop_padding", "4", "resized_crop", "0"],
        ),
        (FILES, {**CROPS, "crop": [64, 64]}, ["augment.crop", "label maps"]),
        ({**GENERATED, "kind": "images"}, CROPS, ["augment.resized_crop", "data.name", "generated"]),
        (FOLDER, CROPS, ["augment.resized_crop", "data.name", "image_folder"]),
        ({**FILES, "crop": 300}, CROPS, ["crop", "300", "8 to 256"]),
        ({**FILES, "name": "imagenet", "normalisation": None}, CROPS, ["data.normalisation", "None"]),
        ({**FILES, "sha256": 64 * "0"}, CROPS, ["data.sha256", "unknown"]),
        ({**GENERATED, "train": 3}, CROPS, ["train", "3", "4 classes"]),
        ({**GENERATED, "normalisation": None}, CROPS, ["data.normalisation", "None"]),
        (
            {**GENERATED, "kind": "maps", "classes": 256, "train": 256},
            {"crop_padding": 0, "flip": True},
            ["data.classes", "256", "255"],
        ),
        ({**GENERATED, "kind": "maps2"}, CROPS, ["data.kind", "maps2"]),
    ],
)
def test_data_and_augmentation_that_do_not_belong_together(
    data: dict[str, Any], augment: dict[str, Any], said: list[object]
) -> None:
    with pytest.raises(MoonshineError, match=naming(*said)):
        study(data, augment)
