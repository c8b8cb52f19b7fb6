"""The ``image_folder`` and ``picture_files`` kinds: the user's images as torchvision's ``ImageFolder`` wants them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from moonshine.datasets.kind import CroppedImages, ImageFiles, Normalisation, check_checksum
from moonshine.datasets.listing import checksum_of_contents, checksum_of_sizes, list_images
from moonshine.errors import MoonshineError
from moonshine.fields import FilePath, Sha256

SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Folder -> split."""


class ImageFolder(CroppedImages):
    """The user's own images in the layout of torchvision's ``ImageFolder``, decoded ahead.

    ``root`` holds train/, test/ and perhaps val/ (used instead of ``validation``).
    """

    name: Literal["image_folder"]
    root: FilePath
    sha256: Sha256

    def source(self) -> ImageFiles:
        """List the images once the checksum of all is right; they are decoded later."""
        try:
            listing = list_images(self.root)
            found = checksum_of_contents(listing.root, listing.names)
        except MoonshineError as error:
            raise MoonshineError(f"data.root: {error}") from None
        check_checksum(f"the images of {listing.root} have", found, self.sha256)
        return ImageFiles(
            root=self.root,
            splits=listing.by_split(SPLITS),
            resize=self.resize,
            crop=self.crop,
            description=f"image folder {listing.root.name}",
            sha256=found,
            class_names=listing.classes,
        )


class PictureFiles(CroppedImages):
    """A folder of images like `ImageFolder`'s that is too large to decode ahead: files are read during training.

    ``resize`` and ``crop`` are for evaluation; in training ``augment.resized_crop`` says which part is shown.
    """

    is_encoded: ClassVar[bool] = True

    name: Literal["picture_files"]
    root: FilePath
    normalisation: Normalisation

    def source(self) -> ImageFiles:
        """List the images without reading one: the checksum is that of names and sizes, not of contents."""
        try:
            listing = list_images(self.root)
            found = checksum_of_sizes(listing.root, listing.names)
        except MoonshineError as error:
            raise MoonshineError(f"data.root: {error}") from None
        return ImageFiles(
            root=self.root,
            splits=listing.by_split(SPLITS),
            resize=self.resize,
            crop=self.crop,
            description=f"picture files {listing.root.name}, listed by name and size",
            sha256=found,
            class_names=listing.classes,
        )


def checksum_image_folder(root: Path | str) -> str:
    """Return the SHA-256 of the images in a folder: of their names below it and their contents.

    It is that of the text which ``sha256sum`` prints for them, one line per file, sorted by the bytes of the path.
    MoonshineError for a folder that is missing, laid out otherwise or unreadable.
    """
    listing = list_images(root)
    return checksum_of_contents(listing.root, listing.names)
