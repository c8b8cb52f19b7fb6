"""``moonshine checksum``: the value of ``sha256`` or ``weights_sha256`` for a file or folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from moonshine.datasets.image_folder import checksum_image_folder
from moonshine.datasets.segmentation_folder import checksum_segmentation_folder
from moonshine.errors import MoonshineError
from moonshine.files import sha256

DESCRIPTION = """
Print the SHA-256 of a file, or that of a folder of images in the layout of torchvision's ImageFolder, or of images
and label maps in images/ and labels/: of the names and contents of the files in train, val and test, as `sha256sum`
lists them, sorted.
"""


def add_checksum(subparsers: Any) -> None:
    """Add ``moonshine checksum``."""
    parser = subparsers.add_parser(
        "checksum",
        help="the SHA-256 that a study states of a file or of a folder of images",
        description=DESCRIPTION,
    )
    parser.add_argument("path", type=Path, metavar="PATH")
    parser.set_defaults(run=_checksum)


def _checksum(arguments: argparse.Namespace) -> int:
    path = arguments.path.expanduser()
    if path.is_dir():
        dense = all((path / name).is_dir() for name in ("images", "labels"))
        print(checksum_segmentation_folder(path) if dense else checksum_image_folder(path))
        return 0
    try:
        print(sha256(path))
    except OSError as error:
        raise MoonshineError(f"{path}: cannot be read ({error.strerror})") from None
    return 0
