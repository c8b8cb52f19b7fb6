"""Size of a study's dataset, prepared or not: number of images, their shape, number of classes."""

from __future__ import annotations

from dataclasses import dataclass

from moonshine.config import Study
from moonshine.config.data import Cifar, Cityscapes, Digits, Generated, Imagenet
from moonshine.datasets import cityscapes, imagenet
from moonshine.errors import MoonshineError
from moonshine_workflow.graph import nodes
from moonshine_workflow.students.layouts import images_of

DIGITS = 1_797


@dataclass(frozen=True)
class DatasetSize:
    """Number of images per split, (channels, height, width) of one in evaluation, number of a network's outputs."""

    train: int
    validation: int
    test: int
    shape: tuple[int, int, int]
    classes: int


def dataset_size(study: Study) -> DatasetSize:
    """Return the size of the prepared dataset, or of a public one that is not prepared yet.

    MoonshineError for a dataset of the user's own that is not prepared.
    """
    if nodes.fetch(study.study).is_done():
        images = images_of(study)
        counts = images.dataset["counts"]
        return DatasetSize(
            counts["train"], counts["validation"], counts["test"], images.shape, images.classes
        )
    train, test, shape, classes = _public(study)
    validation = round(train * study.data.validation)
    return DatasetSize(train - validation, validation, test, shape, classes)


def _public(study: Study) -> tuple[int, int, tuple[int, int, int], int]:
    """Images to train and validate on, test images, (channels, height, width), classes."""
    match data := study.data:
        case Digits():
            test = round(DIGITS * data.test)
            return DIGITS - test, test, (data.channels or 1, data.size, data.size), 10
        case Cifar():
            return 50_000, 10_000, (3, data.size, data.size), {"cifar10": 10, "cifar100": 100}[data.name]
        case Generated():
            width = 2 * data.size if data.kind == "maps" else data.size
            return data.train, data.test, (3, data.size, width), data.classes
        case Imagenet():
            counts = imagenet.COUNTS
            return counts["train"], counts["val"], (3, data.crop, data.crop), imagenet.CLASSES
        case Cityscapes():
            counts, (height, width) = cityscapes.COUNTS, data.size
            # void has an output of its own
            return counts["train"], counts["val"], (3, height, width), len(cityscapes.CLASSES) + 1
    raise MoonshineError(
        f"data.name: the size of {data.name} is not known before it is prepared; allowed: run `snakemake "
        f"results/{study.study}/data/dataset.json` or `dvc repro fetch` first"
    )
