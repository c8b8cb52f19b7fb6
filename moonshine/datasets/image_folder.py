"""The ``image_folder`` kind: a folder of the user's images in the layout of torchvision's ``ImageFolder``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moonshine.datasets.checksums import of_files
from moonshine.datasets.folder_listing import Listing, survey
from moonshine.datasets.pictures import Pictures
from moonshine.datasets.source import Source
from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from moonshine.config.data import ImageFolder


def read(config: ImageFolder) -> Source:
    """Pictures of ``config.root`` once the checksum of all is ``config.sha256``; decoded later, piece by piece.

    Raises MoonshineError for a folder that is missing, laid out otherwise, unreadable or another one.
    """
    try:
        listing = survey(config.root)
        found = _checksum(listing)
    except MoonshineError as error:
        raise MoonshineError(f"data.root: {error}") from None
    if found != config.sha256:
        raise MoonshineError(
            f"data.sha256: the images of {listing.root} have the checksum {found}, the study says {config.sha256}; "
            "they have changed or are others (where they are the right ones, write their checksum into the study)"
        )
    pictures = {
        split: Pictures(listing.root, names, config.resize, config.crop)
        for split, names in listing.files.items()
    }
    labels = {split: np.array(values, dtype=np.int64) for split, values in listing.labels.items()}
    return Source(
        where=str(listing.root),
        description=f"image folder {listing.root.name}",
        sha256=found,
        train_images=pictures["train"],
        train_labels=labels["train"],
        test_images=pictures["test"],
        test_labels=labels["test"],
        validation_images=pictures.get("val"),
        validation_labels=labels.get("val"),
        class_names=listing.classes,
        resize_rule={
            "resize": config.resize,
            "crop": [config.crop, config.crop],
            "interpolation": "bilinear",
            "antialias": True,
        },
    )


def checksum(root: Path | str) -> str:
    """SHA-256 of the images that are read from a folder: of their names below it and their contents.

    It is that of the text which ``sha256sum`` prints for them, one line per file, sorted by the bytes of the path.
    Raises MoonshineError where ``read`` would.
    """
    return _checksum(survey(root))


def _checksum(listing: Listing) -> str:
    return of_files(listing.root, (name for files in listing.files.values() for name in files))
