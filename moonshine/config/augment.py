"""Section ``augment`` of a study: augmentation of the training images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from moonshine.fields import Positive, Section, Sides


class ResizedCrop(Section):
    """Random crop with a share ``scale`` of the image's area and an aspect ratio (width / height) ``ratio``, resized.

    Both are [least, most]. As torchvision's ``RandomResizedCrop``, bilinear with antialiasing.
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
    """Augmentation in training: zero-pad by ``crop_padding``, crop at random, flip half of the images horizontally.

    ``crop`` is [height, width]; by default an image is cropped back to its own size, that is, shifted by up to
    ``crop_padding`` pixels. Label maps move with their images. Images that are decoded during training are cropped by
    ``resized_crop`` instead.
    """

    crop_padding: Annotated[int, Field(ge=0, le=1024)]
    flip: bool
    crop: Sides | None = None
    resized_crop: ResizedCrop | None = None
