"""Image files as network inputs: decoded, turned upright, converted to RGB, resized and cropped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any, ClassVar

import numpy as np

from moonshine.data.rgb import open_rgb
from moonshine.datasets.source import Array, UnreadableImages

THREADS = min(8, len(os.sched_getaffinity(0)))
"""Pictures decoded at once; each holds one at full size."""


@dataclass(frozen=True)
class Pictures:
    """Files ``names`` below ``root`` as one uint8 array (N, crop, crop, 3) that is decoded where it is indexed."""

    root: Path
    names: Sequence[str]
    resize: int
    crop: int
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.uint8)
    ndim: ClassVar[int] = 4

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return (len(self.names), self.crop, self.crop, 3)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, indices: Any) -> Array:
        """Chosen pictures, in this order; ``UnreadableImages`` names all of those that are none."""
        names = [self.names[index] for index in indices]
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(self._decoded, names))
        failures = {name: image for name, image in zip(names, found, strict=True) if isinstance(image, str)}
        if failures:
            raise UnreadableImages(str(self.root), failures)
        return np.stack([image for image in found if not isinstance(image, str)])

    def _decoded(self, name: str) -> Array | str:
        """The picture, or why there is none."""
        try:
            return decode(self.root / name, self.resize, self.crop)
        except Exception as error:  # decoders of damaged files raise almost anything
            reason = str(error) or type(error).__name__
            return reason.replace(str(self.root / name), name)


def decode(path: Path, resize: int, crop: int) -> Array:
    """One picture, uint8 (crop, crop, 3): the shorter side becomes ``resize`` pixels, the middle is kept.

    Bilinear with antialiasing and rounded like torchvision's ``Resize`` and ``CenterCrop`` of a PIL image; upright
    according to its EXIF orientation; transparency is dropped and 16 bits become 8, as by torchvision's loader and
    libpng. Of an animation the first frame. Raises whatever the decoder does for a file that is no picture.
    """
    from PIL import Image

    if not S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise ValueError("no regular file")
    picture = open_rgb(path)
    width, height = picture.size
    short = min(width, height)
    size = (int(resize * width / short), int(resize * height / short))
    if size[0] * size[1] > 2 * (Image.MAX_IMAGE_PIXELS or 0) > 0:
        raise ValueError(f"{width}x{height} pixels would become {size[0]}x{size[1]}")
    left, top = (round((side - crop) / 2) for side in size)
    resized = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))
