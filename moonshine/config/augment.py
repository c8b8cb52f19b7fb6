"""The section ``augment`` of a study: the augmentation of training images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from moonshine.fields import Positive, Section, Sides


class ResizedCrop(Section):
    """A random part of an image: a share ``scale`` of its area, width by height in ``ratio``, resized to the input.

    Both are [least, most]. It is torchvision's ``RandomResizedCrop``, bilinear with antialiasing.
    """

    scale: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=2, max_length=2)]
    ratio: Annotated[list[Positive], Field(min_length=2, max_length=2)]

    @model_validator(mode="after")
    def _ascending(self) -> ResizedCrop:
        for key, (least, most) in (("scale", self.scale), ("ratio", self.ratio)):
            if least > most:
                raise ValueError(f"{key}: found [{least}, {most}]; allowed: [least, most]")
        return self


class Augment(Section):
    """Training-time augmentation: zero-pad by ``crop_padding``, crop at a random place, mirror half of the images.

    ``crop`` is [height, width]; left out, an image is cropped back to its own size, which moves it by up to
    ``crop_padding`` pixels. Label maps move with their images. Images that are decoded during training are cropped by
    ``resized_crop`` instead.
    """

    crop_padding: Annotated[int, Field(ge=0, le=1024)]
    flip: bool
    crop: Sides | None = None
    resized_crop: ResizedCrop | None = None
