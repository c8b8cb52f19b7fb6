"""``moonshine checksum``: the value of ``sha256`` or ``weights_sha256`` for a file or folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from moonshine.datasets.image_folder import checksum_image_folder
from moonshine.datasets.segmentation_folder import checksum_segmentation_folder
from moonshine.errors import MoonshineError
from moonshine.files import sha256

_DESCRIPTION = """
Print the SHA-256 of a file, or of a folder of images: train/<class>/, val/<class>/ and test/<class>/, or images/ and
labels/ for label maps. A folder's is that of its files' names and contents as `sha256sum` lists them, sorted.
"""


def add_checksum(subparsers: Any) -> None:
    """Add ``moonshine checksum``."""
    parser = subparsers.add_parser(
        "checksum",
        help="SHA-256 of a file or a folder of images, as params.yaml states it",
        description=_DESCRIPTION,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="a file or a folder of images")
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
