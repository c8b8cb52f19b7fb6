"""Section ``augment`` of a study: augmentation of the training images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from moonshine.errors import MoonshineError
from moonshine.fields import Positive, Section, Sides


class Rectangle(Section):
    """Random part of an image: ``scale`` is its share of the area, ``ratio`` width / height, both [least, most]."""

    scale: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2, max_length=2)]
    ratio: Annotated[list[Positive], Field(min_length=2, max_length=2)]

    @model_validator(mode="after")
    def _ascending(self) -> Rectangle:
        for key, (least, most) in (("scale", self.scale), ("ratio", self.ratio)):
            if least > most:
                raise ValueError(f"{key}: found [{least}, {most}]; allowed: [least, most]")
        return self


class ResizedCrop(Rectangle):
    """Random crop, resized, as torchvision's ``RandomResizedCrop``: bilinear with antialiasing."""


class Erasing(Rectangle):
    """Random erasing: with a ``probability``, a rectangle of an image is replaced by the training images' mean."""

    probability: Annotated[float, Field(gt=0, le=1)]


class Augment(Section):
    """Augmentation in training: zero-pad by ``crop_padding``, crop at random, flip half of the images horizontally.

    ``crop`` is [height, width]; by default an image is cropped back to its own size, that is, shifted by up to
    ``crop_padding`` pixels. Label maps move with their images. Images that are decoded during training are cropped by
    ``resized_crop`` instead. ``trivial_augment`` then changes shape or colours of every image by one random operation.
    ``cutout`` is the side of a square that is replaced by the mean in every image.
    ``mixup`` and ``cutmix`` mix the images of a batch, and their labels, with shares drawn from Beta(alpha, alpha).
    """

    crop_padding: Annotated[int, Field(ge=0, le=1024)]
    flip: bool
    crop: Sides | None = None
    resized_crop: ResizedCrop | None = None
    trivial_augment: bool = False
    cutout: Annotated[int, Field(ge=1, le=16384)] | None = None
    erasing: Erasing | None = None
    mixup: Positive | None = None
    cutmix: Positive | None = None

    @property
    def mixes(self) -> dict[str, float]:
        """How images of a batch are mixed, with the parameter alpha of the distribution of shares."""
        found = {"mixup": self.mixup, "cutmix": self.cutmix}
        return {kind: alpha for kind, alpha in found.items() if alpha}

    def check_label_maps(self) -> None:
        """MoonshineError naming the first key that cannot change label maps along with their images."""
        for key, value in self.model_dump(include=_ONE_LABEL_PER_IMAGE).items():
            if value:
                raise MoonshineError(
                    f"augment.{key}: found {value}; allowed: data with one label per image; label maps take "
                    "crop_padding, crop and flip"
                )


_ONE_LABEL_PER_IMAGE = {"trivial_augment", "cutout", "erasing", "mixup", "cutmix"}
