"""The kinds of dataset, a file each; they are listed here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import Field

from moonshine.datasets.arrays import Arrays
from moonshine.datasets.cifar import Cifar
from moonshine.datasets.cityscapes import Cityscapes
from moonshine.datasets.digits import Digits
from moonshine.datasets.generated import GeneratedImages, GeneratedJpegs, GeneratedMaps
from moonshine.datasets.image_folder import EncodedImageFolder, ImageFolder
from moonshine.datasets.imagenet import Imagenet
from moonshine.datasets.kind import DataSection
from moonshine.datasets.segmentation_folder import SegmentationFolder

Generated = Annotated[GeneratedImages | GeneratedJpegs | GeneratedMaps, Field(discriminator="kind")]
Data = Annotated[
    Digits
    | Cifar
    | Arrays
    | ImageFolder
    | EncodedImageFolder
    | Imagenet
    | SegmentationFolder
    | Cityscapes
    | Generated,
    Field(discriminator="name"),
]


def _sections(union: Any) -> Iterator[type[DataSection]]:
    for member in get_args(union):
        if isinstance(member, type) and issubclass(member, DataSection):
            yield member
        else:
            yield from _sections(member)


DATASET_KINDS = tuple(_sections(Data))
