"""Conversion of image files of any format and colour mode to upright RGB.

Needs numpy and pillow alone: it is also written beside exported networks, for the example there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

# What a file is goes by its content; kinds that run programs, as EPS does, are left out.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def open_rgb(file: Path | str | BinaryIO) -> Image:
    """A picture upright according to its EXIF orientation, in RGB as by `as_rgb`; of an animation the first frame.

    Raises whatever the decoder does for a file that is no picture.
    """
    return open_turned(file)[0]


def open_turned(file: Path | str | BinaryIO) -> tuple[Image, int | None]:
    """As `open_rgb`, with the EXIF orientation that the picture was turned by: 2 to 8, or what `orientation` says."""
    from PIL import Image, ImageOps

    with Image.open(file, formats=FORMATS) as opened:
        tag = orientation(opened)  # before it is loaded, which removes the tag of a TIFF
        ImageOps.exif_transpose(opened, in_place=True)
        opened.load()
        # each copy would cost a tenth of decoding
        return opened if opened.mode == "RGB" else as_rgb(opened), tag


def orientation(picture: Image) -> int | None:
    """The EXIF orientation of a picture, 1 (upright) to 8; None where it has none, or one that EXIF does not know."""
    from PIL.ExifTags import Base

    tag = picture.getexif().get(Base.Orientation)
    return tag if tag in range(1, 9) else None


def as_rgb(picture: Image) -> Image:
    """A picture of any mode in RGB: transparency is dropped, 16 bits become 8. ValueError where neither is possible."""
    from PIL import Image

    if picture.mode == "I" or picture.mode.startswith("I;16"):
        pixels = np.asarray(picture)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError(f"pixels from {pixels.min()} to {pixels.max()}; allowed: 8 or 16 bits")
        picture = Image.fromarray((pixels >> 8).astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError("pixels are floating-point numbers; allowed: 8 or 16 bits")
    elif picture.mode in ("P", "PA"):
        picture = picture.convert(
            "RGBA"
        )  # a palette may hold transparency, of which convert("RGB") complains
    return picture.convert("RGB")
