"""The sections ``data`` and ``augment`` of a study: which images, and how they are varied in training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moonshine.config_types import Section, Seed, Sha256, Share


class Digits(Section):
    """scikit-learn's 1,797 handwritten digits, resized from 8x8 to ``size``; ``test`` is cut off first."""

    name: Literal["digits"]
    size: Annotated[int, Field(ge=8)]
    validation: Share
    test: Annotated[float, Field(gt=0, lt=1)]
    split_seed: Seed


class Cifar(Section):
    """CIFAR-10 or CIFAR-100 as torchvision downloads and checks them into ``root``."""

    name: Literal["cifar10", "cifar100"]
    root: str
    size: Literal[32]
    validation: Share
    split_seed: Seed


class Arrays(Section):
    """The user's own ``.npz`` in the MedMNIST key convention; ``size: null`` keeps the images' own size."""

    name: Literal["arrays"]
    path: str
    sha256: Sha256
    size: Annotated[int, Field(ge=8)] | None
    validation: Share
    split_seed: Seed


Data = Annotated[Digits | Cifar | Arrays, Field(discriminator="name")]


class Augment(Section):
    """Training-time augmentation: zero-pad by ``crop_padding`` and crop back, mirror half of the images."""

    crop_padding: Annotated[int, Field(ge=0)]
    flip: bool
