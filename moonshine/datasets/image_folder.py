"""The ``image_folder`` kind: the user's own pictures in the layout of torchvision's ``ImageFolder``."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

import numpy as np

from moonshine.datasets.folder_listing import Listing, survey
from moonshine.datasets.pictures import THREADS, Pictures
from moonshine.datasets.source import Source, UnreadableImages
from moonshine.errors import MoonshineError
from moonshine.files import sha256

if TYPE_CHECKING:
    from moonshine.config import ImageFolder


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
    names = sorted((name for files in listing.files.values() for name in files), key=os.fsencode)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda name: _content(listing.root / name), names))
    failures = {
        name: str(error) for name, error in zip(names, found, strict=True) if isinstance(error, OSError)
    }
    if failures:
        raise UnreadableImages(str(listing.root), failures)
    lines = (
        f"{content}  ".encode() + os.fsencode(name) + b"\n"
        for content, name in zip(found, names, strict=True)
    )
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _content(path: Path) -> str | OSError:
    """The checksum of a file, or why there is none."""
    try:
        if not S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            return OSError("no regular file")
        return sha256(path)
    except OSError as error:
        return OSError(error.strerror)
