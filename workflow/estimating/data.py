"""What an estimate needs to know of a study's data: how many images, and what a network takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moonshine.config import Study
from moonshine.config.data import (
    Cifar,
    Cityscapes,
    Digits,
    Generated,
    ImageFolder,
    Imagenet,
    PictureFiles,
    SegmentationFolder,
)
from moonshine.errors import MoonshineError
from workflow import nodes

DIGITS = 1_797
CIFAR = {"train": 50_000, "test": 10_000}


@dataclass(frozen=True)
class Given:
    """What is known of data that may not be there; None for what is not.

    ``train`` counts the images that ``data.validation`` is cut from; ``shape`` is (channels, height, width).
    """

    train: int | None = None
    test: int | None = None
    shape: tuple[int, int, int] | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Facts:
    """Images by split, their (channels, height, width) in evaluation, the outputs of a network, and who says so."""

    train: int
    validation: int
    test: int
    shape: tuple[int, int, int]
    classes: int
    source: str


def facts_of(study: Study, given: Given) -> Facts:
    """What is given, else what the study's prepared data are, else what is known of a data set of this name.

    MoonshineError for a number below what there must be, and naming the options that are missing where the data are the
    user's own and not prepared.
    """
    _check(given)
    prepared = nodes.fetch(study.study).is_done()
    base, held = _prepared(study) if prepared else (_known(study.data), None)
    train = base.train if given.train is None else given.train
    test = base.test if given.test is None else given.test
    shape, classes = given.shape or base.shape, given.classes or base.classes
    if train is None or test is None or shape is None or classes is None:
        options = {"--images": train, "--test-images": test, "--input": shape, "--classes": classes}
        missing = [option for option, value in options.items() if value is None]
        raise MoonshineError(
            f"data.name: the size of {study.data.name} is not known before it is prepared; allowed: give "
            f"{', '.join(missing)}, or run `snakemake results/{study.study}/data/dataset.json` or `dvc repro fetch`"
        )
    if held is None or given.train is not None:
        held = round(train * study.data.validation)
        train -= held
    known = "prepared" if prepared else f"known of {study.data.name}"
    source = known if given == Given() else f"{known}, changed as given" if base != Given() else "as given"
    return Facts(train, held, test, shape, classes, source)


def _check(given: Given) -> None:
    for option, value, least in (
        ("--images", given.train, 1),
        ("--test-images", given.test, 0),
        ("--classes", given.classes, 1),
    ):
        if value is not None and value < least:
            raise MoonshineError(f"{option} is {value}; allowed: a whole number from {least}")


def _prepared(study: Study) -> tuple[Given, int]:
    """The study's prepared data, and their images for validation."""
    from workflow.layouts import images_of

    images = images_of(study)
    counts = images.dataset["counts"]
    return Given(counts["train"], counts["test"], images.shape, images.classes), counts["validation"]


def _known(data: Any) -> Given:
    """What the section ``data`` says, and what everybody knows of a public data set."""
    match data:
        case Digits():
            test = round(DIGITS * data.test)
            return Given(DIGITS - test, test, (data.channels or 1, data.size, data.size), 10)
        case Cifar():
            classes = {"cifar10": 10, "cifar100": 100}[data.name]
            return Given(CIFAR["train"], CIFAR["test"], (3, data.size, data.size), classes)
        case Generated():
            width = 2 * data.size if data.kind == "maps" else data.size
            return Given(data.train, data.test, (3, data.size, width), data.classes)
        case Imagenet():
            from moonshine.datasets import imagenet

            counts = imagenet.COUNTS
            return Given(counts["train"], counts["val"], (3, data.crop, data.crop), imagenet.CLASSES)
        case Cityscapes():
            from moonshine.datasets import cityscapes

            counts, (height, width) = cityscapes.COUNTS, data.size
            # void has an output of its own
            return Given(counts["train"], counts["val"], (3, height, width), len(cityscapes.CLASSES) + 1)
        case SegmentationFolder():
            shape = (3, data.size[0], data.size[1]) if data.size else None
            return Given(shape=shape, classes=len(data.classes))
        case ImageFolder() | PictureFiles():
            return Given(shape=(3, data.crop, data.crop))
    return Given()


def shape_of(text: str) -> tuple[int, int, int]:
    """(channels, height, width) from ``3x64x64``; MoonshineError for anything else."""
    sizes = text.split("x")
    if len(sizes) == 3 and all(size.isdecimal() and int(size) > 0 for size in sizes):
        channels, height, width = map(int, sizes)
        return channels, height, width
    raise MoonshineError(f"--input is {text!r}; allowed: channels x height x width, such as 3x64x64")
