"""The ``image_folder`` and ``picture_files`` kinds: the user's images, in the layout of torchvision's own folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, Literal

from moonshine.datasets.kind import CroppedImages, ImageFiles, Normalisation, check_checksum
from moonshine.datasets.listing import checksum_of_contents, checksum_of_sizes, list_images
from moonshine.errors import MoonshineError
from moonshine.fields import FilePath, Sha256


class _Folder(CroppedImages):
    root: FilePath

    def _listed(self, checksum: Callable[[Path, Iterable[str]], str], description: str) -> ImageFiles:
        try:
            listing = list_images(self.root)
            found = checksum(listing.root, listing.names)
        except MoonshineError as error:
            raise MoonshineError(f"data.root: {error}") from None
        return ImageFiles(
            root=self.root,
            splits=listing.splits,
            resize=self.resize,
            crop=self.crop,
            description=description.replace("{}", listing.root.name),
            sha256=found,
            class_names=listing.classes,
        )


class ImageFolder(_Folder):
    """The user's own images in the layout of torchvision's ``ImageFolder``, decoded ahead.

    ``root`` holds train/, test/ and perhaps val/ (used instead of ``validation``).
    """

    name: Literal["image_folder"]
    sha256: Sha256

    def source(self) -> ImageFiles:
        source = self._listed(checksum_of_contents, "image folder {}")
        check_checksum(f"the images of {source.where} have", source.sha256, self.sha256)
        return source


class EncodedImageFolder(_Folder):
    """A folder of images like `ImageFolder`'s that is too large to decode ahead: files are read during training.

    ``resize`` and ``crop`` are for evaluation; in training ``augment.resized_crop`` chooses the part. The checksum is
    that of names and sizes, not of contents.
    """

    is_encoded: ClassVar[bool] = True

    name: Literal["picture_files"]
    normalisation: Normalisation

    def source(self) -> ImageFiles:
        return self._listed(checksum_of_sizes, "picture files {}, listed by name and size")


def checksum_image_folder(root: Path | str) -> str:
    """Return the SHA-256 of the images in a folder: of their names below it and their contents.

    It is the checksum of ``sha256sum``'s output for them, one line per file, sorted by the bytes of the path.
    MoonshineError for a folder that is missing, unreadable or has another layout.
    """
    listing = list_images(root)
    return checksum_of_contents(listing.root, listing.names)
