"""The ``picture_files`` kind: a folder of the user's images that is too large to decode ahead."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonshine.datasets.checksums import of_sizes
from moonshine.datasets.encoding import Encoded, prepare_encoded
from moonshine.datasets.folder_listing import survey
from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from moonshine.config.data import PictureFiles

SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Folder -> split."""


def prepare(config: PictureFiles, folder: Path) -> dict[str, Any]:
    """List the pictures of ``config.root`` by split and class, and write the list into ``folder``: none is read.

    The layout is that of ``image_folder``. The checksum of the source is that of names and sizes, not of contents.
    MoonshineError for a folder that is missing or laid out otherwise, for links that lead nowhere, and as for
    `moonshine.datasets.encoding.prepare_encoded`.
    """
    try:
        listing = survey(config.root)
        checksum = of_sizes(listing.root, (name for names in listing.files.values() for name in names))
    except MoonshineError as error:
        raise MoonshineError(f"data.root: {error}") from None
    encoded = Encoded(
        pictures=listing.by_split(SPLITS),
        class_names=listing.classes,
        root=config.root,
        resize=config.resize,
        crop=config.crop,
        description=f"picture files {listing.root.name}, listed by name and size",
        sha256=checksum,
    )
    return prepare_encoded(
        encoded, config.name, config.validation, config.split_seed, config.normalisation, folder
    )
