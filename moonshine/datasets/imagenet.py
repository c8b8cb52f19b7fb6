"""The ``imagenet`` kind: ImageNet (ILSVRC 2012), downloaded by the user and extracted by torchvision."""

from __future__ import annotations

import re
from collections import Counter
from typing import ClassVar, Literal

from moonshine.datasets.kind import CroppedImages, DatasetSize, ImageFiles, Normalisation
from moonshine.datasets.listing import Listing, checksum_of_sizes, list_images
from moonshine.errors import MoonshineError, first_few
from moonshine.fields import FilePath

_CLASSES = 1000
_COUNTS = {"train": 1_281_167, "val": 50_000}
_SMALLEST_CLASS = {"train": 732, "val": 50}
"""Number of images in the smallest class."""

_FOLDERS = {"train": "train", "val": "test"}
"""Folder -> split: the labels of ImageNet's own test set are not public."""
WNID = re.compile(r"n\d{8}")


class Imagenet(CroppedImages):
    """ImageNet (ILSVRC 2012) as torchvision extracts it into ``root``: train/<wnid>/ and val/<wnid>/.

    Its 50,000 validation images are the test set, as is usual; ``validation`` is a share of train/. ``resize`` and
    ``crop`` are for evaluation. The checksum is that of names and sizes, not of contents. Classes are in the order of
    torchvision's weights.
    """

    is_encoded: ClassVar[bool] = True

    name: Literal["imagenet"]
    root: FilePath
    normalisation: Normalisation

    def source(self) -> ImageFiles:
        try:
            listing = list_images(self.root, _FOLDERS, optional=())
            _check_whole(listing)
            found = checksum_of_sizes(listing.root, listing.names)
        except MoonshineError as error:
            raise MoonshineError(f"data.root: {error}; {_expected(self.root)}") from None
        return ImageFiles(
            root=self.root,
            splits=listing.splits,
            resize=self.resize,
            crop=self.crop,
            description="ImageNet (ILSVRC 2012), listed by name and size",
            sha256=found,
            class_names=class_names(),
        )

    def public_size(self) -> DatasetSize:
        return DatasetSize(_COUNTS["train"], _COUNTS["val"], (3, self.crop, self.crop), _CLASSES)


def class_names() -> list[str]:
    """Return the classes in words, in the order of their WordNet ids, as torchvision's weights name them."""
    from torchvision.models import ResNet34_Weights

    return list(ResNet34_Weights.DEFAULT.meta["categories"])


def _expected(root: str) -> str:
    return (
        f"expected: {_COUNTS['train']:,} images as train/<wnid>/*.JPEG and {_COUNTS['val']:,} as val/<wnid>/*.JPEG in "
        f"{_CLASSES} folders each below {root}. ImageNet's licence leaves the download to you: put "
        "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz from image-net.org there, "
        'remove a train/ or val/ that is not whole, and run: python -c "from torchvision.datasets import ImageNet; '
        f"[ImageNet('{root}', split) for split in ('train', 'val')]\""
    )


def _check_whole(listing: Listing) -> None:
    if odd := [name for name in listing.classes if not WNID.fullmatch(name)]:
        raise MoonshineError(
            f"{listing.root / 'train'} has folders that are no WordNet ids: {first_few(odd)}"
        )
    for folder, expected in _COUNTS.items():
        where = listing.root / folder
        sizes = Counter(listing.splits[_FOLDERS[folder]][1])
        if len(sizes) != _CLASSES:
            raise MoonshineError(f"{where} has {len(sizes)} class folders; allowed: {_CLASSES}")
        if sizes.total() != expected:
            short = [
                f"{name} ({sizes[label]})"
                for label, name in enumerate(listing.classes)
                if sizes[label] < _SMALLEST_CLASS[folder]
            ]
            raise MoonshineError(
                f"{where} holds {sizes.total():,} images; allowed: {expected:,}"
                + (f" (too few in {first_few(short)})" if short else "")
            )
