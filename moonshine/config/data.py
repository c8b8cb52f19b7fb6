"""The sections ``data`` and ``augment`` of a study: the dataset, and the augmentation of training images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moonshine.config.types import FilePath, Positive, Section, Seed, Sha256, Share, Text, Whole

Side = Annotated[int, Field(ge=8, le=16384)]
Sides = Annotated[list[Side], Field(min_length=2, max_length=2)]
"""[height, width] in pixels."""
MAP_CLASSES = 255
"""Classes of label maps at most: they have 8 bits, and one id means none of them."""


class Normalisation(Section):
    """Mean and standard deviation per channel of pixels in [0, 1]: those that a teacher's weights were made with."""

    mean: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
    std: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _same_channels(self) -> Normalisation:
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} values and std {len(self.std)}; allowed: one of each per channel"
            )
        return self


class Digits(Section):
    """scikit-learn's 1,797 handwritten digits, resized from 8x8 to ``size``; ``test`` is cut off first."""

    name: Literal["digits"]
    size: Side
    validation: Share
    test: Annotated[float, Field(gt=0, lt=1)]
    split_seed: Seed
    channels: Literal[3] | None = None
    normalisation: Normalisation | None = None


class Cifar(Section):
    """CIFAR-10 or CIFAR-100 as torchvision downloads and checks them into ``root``."""

    name: Literal["cifar10", "cifar100"]
    root: FilePath
    size: Literal[32]
    validation: Share
    split_seed: Seed
    normalisation: Normalisation | None = None


class Arrays(Section):
    """The user's own ``.npz`` in the MedMNIST key convention; ``size: null`` keeps the images' own size.

    ``channels: 3`` repeats the channel of grey images, for networks that take colour; images of more than 4 channels
    must say here how many they have.
    """

    name: Literal["arrays"]
    path: FilePath
    sha256: Sha256
    size: Side | None
    validation: Share
    split_seed: Seed
    channels: Whole | None = None
    normalisation: Normalisation | None = None


class ImageFolder(Section):
    """The user's own pictures in the layout of torchvision's ``ImageFolder``.

    ``root`` holds train/, test/ and perhaps val/ (used instead of ``validation``). The shorter side becomes
    ``resize`` pixels, then the middle ``crop`` x ``crop`` is kept.
    """

    name: Literal["image_folder"]
    root: FilePath
    sha256: Sha256
    resize: Side
    crop: Side
    validation: Share
    split_seed: Seed
    normalisation: Normalisation | None = None

    @model_validator(mode="after")
    def _crop_fits(self) -> ImageFolder:
        _check_crop(self.crop, self.resize)
        return self


class SegmentationFolder(Section):
    """The user's own pictures with a label for every pixel: images/<split>/ and labels/<split>/, same file names.

    Label maps are 8-bit PNG: 0 is the first of ``classes``, ``void`` none of them. ``size`` is [height, width]; null
    keeps the pictures' own, which must then be one for all.
    """

    name: Literal["segmentation_folder"]
    root: FilePath
    sha256: Sha256
    classes: Annotated[list[Text], Field(min_length=2, max_length=MAP_CLASSES)]
    void: Annotated[int, Field(ge=0, le=255)]
    size: Sides | None
    validation: Share
    split_seed: Seed
    normalisation: Normalisation | None = None

    @model_validator(mode="after")
    def _void_is_no_class(self) -> SegmentationFolder:
        if self.void < len(self.classes):
            raise ValueError(
                f"void: found {self.void}, which is the label of {self.classes[self.void]!r}; allowed: from "
                f"{len(self.classes)}"
            )
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes: {self.classes} has a class twice")
        return self


class Cityscapes(Section):
    """Cityscapes with fine annotations, extracted into ``root``; resized to ``size`` [height, width]."""

    name: Literal["cityscapes"]
    root: FilePath
    size: Sides
    validation: Share
    split_seed: Seed
    normalisation: Normalisation | None = None


class PictureFiles(Section):
    """A folder of pictures like `ImageFolder`'s that is too large to decode ahead: files are read as they are needed.

    The shorter side becomes ``resize`` pixels and the middle ``crop`` x ``crop`` is kept in evaluation; in training
    ``augment.resized_crop`` says which part is shown.
    """

    name: Literal["picture_files"]
    root: FilePath
    resize: Side
    crop: Side
    validation: Share
    split_seed: Seed
    normalisation: Normalisation

    @model_validator(mode="after")
    def _crop_fits(self) -> PictureFiles:
        _check_crop(self.crop, self.resize)
        return self


class Imagenet(Section):
    """ImageNet (ILSVRC 2012) as torchvision extracts it into ``root``: train/<wnid>/ and val/<wnid>/.

    Its 50,000 validation pictures are the test set, as everywhere; ``validation`` is a share of train/. ``resize`` and
    ``crop`` as in `PictureFiles`.
    """

    name: Literal["imagenet"]
    root: FilePath
    resize: Side
    crop: Side
    validation: Share
    split_seed: Seed
    normalisation: Normalisation

    @model_validator(mode="after")
    def _crop_fits(self) -> Imagenet:
        _check_crop(self.crop, self.resize)
        return self


class Generated(Section):
    """Data drawn from ``seed``, to try a pipeline without any: every class has two colours of its own.

    ``images`` are decoded ones of ``size`` x ``size`` pixels. ``pictures`` are JPEGs of many sizes that become inputs
    as ImageNet's do: the shorter side 8/7 of ``size`` pixels, the middle ``size`` x ``size``. ``maps`` are
    scenes ``size`` high and twice as wide with a label for every pixel. ``train`` and ``test`` say how many.
    """

    name: Literal["generated"]
    kind: Literal["images", "maps", "pictures"]
    classes: Annotated[int, Field(ge=2, le=10**6)]
    size: Side
    train: Whole
    test: Whole
    seed: Seed
    validation: Share
    split_seed: Seed
    normalisation: Normalisation | None = None

    @model_validator(mode="after")
    def _enough(self) -> Generated:
        if self.train < self.classes:
            raise ValueError(
                f"train: found {self.train}; allowed: at least one for each of {self.classes} classes"
            )
        if self.kind == "maps" and self.classes > MAP_CLASSES:
            raise ValueError(
                f"classes: found {self.classes}; allowed with kind: maps: 2 to {MAP_CLASSES}, because label maps "
                "have 8 bits, and one id is void"
            )
        if self.kind == "pictures" and self.normalisation is None:
            raise ValueError(
                "normalisation: missing; pictures are not decoded before training, so it must be stated"
            )
        return self


def _check_crop(crop: int, resize: int) -> None:
    if crop > resize:
        raise ValueError(f"crop: found {crop}; allowed: 8 to {resize}, which is resize, the shorter side")


Data = Annotated[
    Digits
    | Cifar
    | Arrays
    | ImageFolder
    | PictureFiles
    | Imagenet
    | SegmentationFolder
    | Cityscapes
    | Generated,
    Field(discriminator="name"),
]


class ResizedCrop(Section):
    """A random part of a picture: a share ``scale`` of its area, width by height in ``ratio``, resized to the input.

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
    ``crop_padding`` pixels. Label maps move with their images. Pictures that are decoded as they are needed are cropped
    by ``resized_crop`` instead.
    """

    crop_padding: Annotated[int, Field(ge=0, le=1024)]
    flip: bool
    crop: Sides | None = None
    resized_crop: ResizedCrop | None = None
