"""Conversion of image files of any format and colour mode to upright RGB.

Needs only numpy and pillow: it is copied beside exported networks, for the example there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

# The content of a file decides; formats that run programs, as EPS does, are excluded.
_DECODED_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def open_rgb(file: Path | str | BinaryIO) -> Image:
    """Open an image upright according to its EXIF orientation, in RGB as by `as_rgb`; of an animation the first frame.

    Raises whatever the decoder raises for a file that is not an image.
    """
    return open_turned(file)[0]


def open_turned(file: Path | str | BinaryIO) -> tuple[Image, int | None]:
    """Return the image as `open_rgb` does, and the EXIF orientation it was stored in, as by `orientation`."""
    from PIL import Image, ImageOps

    with Image.open(file, formats=_DECODED_FORMATS) as opened:
        tag = orientation(opened)  # before it is loaded, which removes the tag of a TIFF
        ImageOps.exif_transpose(opened, in_place=True)
        opened.load()
        # no copy: each costs a tenth of the decoding
        return opened if opened.mode == "RGB" else as_rgb(opened), tag


def orientation(image: Image) -> int | None:
    """Return the EXIF orientation of an image, 1 (upright) to 8, or None for none that EXIF knows."""
    from PIL.ExifTags import Base

    tag = image.getexif().get(Base.Orientation)
    return tag if tag in range(1, 9) else None


def as_rgb(image: Image) -> Image:
    """Convert an image of any mode to RGB: transparency is dropped, 16 bits become 8. ValueError for other depths."""
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError(f"pixels from {pixels.min()} to {pixels.max()}; allowed: 8 or 16 bits")
        image = Image.fromarray((pixels >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("pixels are floating-point numbers; allowed: 8 or 16 bits")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette may hold transparency, of which convert("RGB") complains
    return image.convert("RGB")
