"""The sections of the data: each mistake is answered with the key, the value and what is allowed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from moonshine import MoonshineError
from moonshine.config import Study, parse_study
from moonshine.config.data import ImageFolder

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


def study(data: dict[str, Any]) -> Study:
    return parse_study({**copy.deepcopy(DIGITS), "data": data})


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
        ({"crop": 73}, ["data: crop: found 73", "8 to 72", "resize"]),
        ({"crop": 4}, ["data.crop: found 4", "8"]),
        ({"resize": None}, ["data.resize: found None", "integer"]),
        ({"size": 64}, ["data.size: unknown key", "resize, crop"]),
        ({"sha256": "abc"}, ["data.sha256: found 'abc'"]),
        ({"normalisation": {"mean": [0.5]}}, ["data.normalisation.std: missing"]),
        ({"normalisation": {"mean": [], "std": []}}, ["data.normalisation.mean: found []"]),
        ({"normalisation": {"mean": [0.5, 0.5], "std": [0.2]}}, ["mean has 2 values and std 1"]),
        (
            {"normalisation": {"mean": [123.7], "std": [58.4]}},
            ["data.normalisation.mean.0: found 123.7", "data.normalisation.std.0: found 58.4", "equal to 1"],
        ),
        (
            {"normalisation": {"mean": [0.5], "std": [0]}},
            ["data.normalisation.std.0: found 0", "greater than 0"],
        ),
        ({"normalisation": {**ONE_CHANNEL, "sdt": 1}}, ["data.normalisation.sdt: unknown key", "'std'"]),
    ],
)
def test_a_mistake_names_the_key_the_value_and_what_is_allowed(
    changes: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(MoonshineError) as error:
        study({**FOLDER, **changes})
    for words in said:
        assert words in str(error.value)


@pytest.mark.parametrize("key", [key for key in FOLDER if key != "name"])
def test_no_key_has_a_default(key: str) -> None:
    with pytest.raises(MoonshineError, match=rf"data\.{key}: missing; it has no default"):
        study({name: value for name, value in FOLDER.items() if name != key})


def test_channels_are_three_or_left_out() -> None:
    with pytest.raises(MoonshineError, match=r"data\.channels: found 1; input should be 3"):
        study({**DIGITS["data"], "channels": 1})
