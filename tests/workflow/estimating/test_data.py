"""What an estimate knows of a study's data: by name, prepared, or given."""

from __future__ import annotations

from typing import Any

import pytest

from moonshine import MoonshineError
from moonshine.files import write_json
from tests.workflow import tiny
from tests.workflow.estimating.studies import a_study
from workflow import nodes
from workflow.estimating.data import Facts, Given, facts_of

DIGITS = {"name": "digits", "size": 16, "validation": 0.25, "test": 0.4, "split_seed": 0}
CIFAR = {"name": "cifar100", "root": "data", "size": 32, "validation": 0.1, "split_seed": 0}
NORMALISATION = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
IMAGENET = {
    "name": "imagenet",
    "root": "i",
    "resize": 256,
    "crop": 224,
    "validation": 0.0,
    "split_seed": 0,
    "normalisation": NORMALISATION,
}
CITYSCAPES = {"name": "cityscapes", "root": "c", "size": [512, 1024], "validation": 0.0, "split_seed": 0}
SCENES = {
    "name": "generated",
    "kind": "maps",
    "classes": 4,
    "size": 32,
    "train": 20,
    "test": 6,
    "seed": 0,
    "validation": 0.25,
    "split_seed": 0,
}
RESIZED = {
    "crop_padding": 0,
    "flip": True,
    "resized_crop": {"scale": [0.1, 1.0], "ratio": [0.75, 1.33]},
}


@pytest.mark.parametrize(
    ("data", "augment", "expected"),
    [
        (DIGITS, tiny.STUDY["augment"], Facts(808, 270, 719, (1, 16, 16), 10, "known of digits")),
        (CIFAR, tiny.STUDY["augment"], Facts(45_000, 5_000, 10_000, (3, 32, 32), 100, "known of cifar100")),
        (IMAGENET, RESIZED, Facts(1_281_167, 0, 50_000, (3, 224, 224), 1000, "known of imagenet")),
        (SCENES, tiny.STUDY["augment"], Facts(15, 5, 6, (3, 32, 64), 4, "known of generated")),
        (
            CITYSCAPES,
            tiny.STUDY["augment"],
            Facts(2_975, 0, 500, (3, 512, 1024), 20, "known of cityscapes"),
        ),
    ],
)
def test_public_data_are_known_before_they_are_there(
    data: dict[str, Any], augment: dict[str, Any], expected: Facts
) -> None:
    assert facts_of(a_study(data=data, augment=augment), Given()) == expected


def test_prepared_data_are_counted_and_given_numbers_come_first() -> None:
    study = a_study()
    node = nodes.fetch("tiny")
    counts = {"train": 40, "validation": 10, "test": 20}
    about = {"counts": counts, "channels": 1, "height": 8, "width": 8, "num_classes": 2}
    write_json(node.folder / "dataset.json", about)
    (node.folder / "data.safetensors").touch()
    assert facts_of(study, Given()) == Facts(40, 10, 20, (1, 8, 8), 2, "prepared")
    assert facts_of(study, Given(train=1000)) == Facts(
        800, 200, 20, (1, 8, 8), 2, "prepared, changed as given"
    )


def test_data_of_ones_own_need_numbers() -> None:
    with pytest.raises(MoonshineError, match="arrays is not known before it is prepared") as error:
        facts_of(a_study(), Given(train=50))
    assert "--test-images, --input, --classes," in str(error.value)
