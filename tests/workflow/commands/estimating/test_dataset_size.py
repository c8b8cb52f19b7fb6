"""Size of a dataset before it is prepared."""

from __future__ import annotations

from typing import Any

import pytest

from moonshine import MoonshineError
from moonshine.datasets.kind import DatasetSize
from moonshine_workflow.commands.estimating.steps import dataset_size
from tests.messages import naming
from tests.workflow import tiny
from tests.workflow.commands.estimating.studies import a_study

SPLIT = {"validation": 0.0, "split_seed": 0}
DIGITS = {"name": "digits", "size": 16, "validation": 0.25, "test": 0.4, "split_seed": 0}
CIFAR = {"name": "cifar100", "root": "data", "size": 32, "validation": 0.1, "split_seed": 0}
NORMALISATION = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
IMAGENET = {
    "name": "imagenet",
    "root": "i",
    "resize": 256,
    "crop": 224,
    "normalisation": NORMALISATION,
    **SPLIT,
}
CITYSCAPES = {"name": "cityscapes", "root": "c", "size": [512, 1024], **SPLIT}
GENERATED = {
    "name": "generated",
    "kind": "maps",
    "classes": 4,
    "size": 32,
    "train": 20,
    "test": 6,
    "seed": 0,
    **SPLIT,
}
RESIZED = {"crop_padding": 0, "flip": True, "resized_crop": {"scale": [0.1, 1.0], "ratio": [0.75, 1.33]}}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (DIGITS, DatasetSize(808, 719, (1, 16, 16), 10, 270)),
        (CIFAR, DatasetSize(45_000, 10_000, (3, 32, 32), 100, 5_000)),
        (IMAGENET, DatasetSize(1_281_167, 50_000, (3, 224, 224), 1000)),
        (GENERATED, DatasetSize(20, 6, (3, 32, 64), 4)),
        (CITYSCAPES, DatasetSize(2_975, 500, (3, 512, 1024), 20)),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_public_datasets_are_known_before_they_are_there(data: dict[str, Any], expected: DatasetSize) -> None:
    augment = RESIZED if data["name"] == "imagenet" else tiny.STUDY["augment"]
    assert dataset_size(a_study(data=data, augment=augment)) == expected


def test_a_dataset_of_ones_own_is_prepared_first() -> None:
    with pytest.raises(
        MoonshineError, match=naming("data.name", "arrays", "snakemake results/tiny/data/dataset.json")
    ):
        dataset_size(a_study())
