"""Image files: decoded ahead into network inputs, or packed to be decoded during training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from moonshine.data.encoded import Packed
from moonshine.data.rgb import open_rgb
from moonshine.datasets.kind import ImageFiles, UnreadableImages
from moonshine.datasets.listing import THREADS
from moonshine.preparation.images import fill_tensors
from moonshine.preparation.tensors import Parts, resize_rule
from moonshine.progress import ReportProgress, silent

if TYPE_CHECKING:
    from moonshine.datasets.kind import Array


def pack_files(
    source: ImageFiles, parts: Parts, folder: Path, progress: ReportProgress = silent
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the encoded images, or their paths, unchanged, and the keys of the description that concern them."""
    tensors: dict[str, Tensor] = {}
    for split, (origin, indices) in parts.items():
        strings = source.splits[origin][0]
        packed = Packed.of([os.fsencode(strings[index]) for index in indices])
        tensors |= {f"{split}_strings": packed.content, f"{split}_ends": packed.ends}
    return tensors, {"root": source.root, **_size(source)}


def prepare_files(
    source: ImageFiles, parts: Parts, folder: Path, progress: ReportProgress = silent
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return decoded images, uint8 (N, 3, crop, crop), and the keys of the description that concern their size."""
    root = Path(source.where)
    images = {
        split: DecodedFiles(root, list(map(os.fsdecode, names)), source.resize, source.crop)
        for split, (names, _) in source.splits.items()
    }
    tensors = fill_tensors(images, parts, (3, source.crop, source.crop), source.where, folder, progress)
    return tensors, _size(source)


def _size(source: ImageFiles) -> dict[str, Any]:
    rule = resize_rule(source.resize, source.crop)
    return {"height": source.crop, "width": source.crop, "resize_rule": rule}


@dataclass(frozen=True)
class DecodedFiles:
    """Files ``names`` below ``root`` as one uint8 array (N, crop, crop, 3) that is decoded where it is indexed."""

    root: Path
    names: Sequence[str]
    resize: int
    crop: int

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the array."""
        return (len(self.names), self.crop, self.crop, 3)

    def __getitem__(self, indices: Any) -> Array:
        """Return the chosen images, in this order; UnreadableImages names all that cannot be decoded."""
        names = [self.names[index] for index in indices]
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(self._decoded, names))
        failures = {name: image for name, image in zip(names, found, strict=True) if isinstance(image, str)}
        if failures:
            raise UnreadableImages(str(self.root), failures)
        return np.stack([image for image in found if not isinstance(image, str)])

    def _decoded(self, name: str) -> Array | str:
        """Return the image, or the reason why there is none."""
        try:
            return decode_file(self.root / name, self.resize, self.crop)
        except Exception as error:  # decoders of damaged files raise almost anything
            reason = str(error) or type(error).__name__
            return reason.replace(str(self.root / name), name)


def decode_file(path: Path, resize: int, crop: int) -> Array:
    """Return an image, uint8 (crop, crop, 3): the shorter side is resized to ``resize`` pixels, the centre is kept.

    Bilinear with antialiasing and rounded like torchvision's ``Resize`` and ``CenterCrop`` of a PIL image; upright
    according to its EXIF orientation; transparency is dropped and 16 bits become 8, as by torchvision's loader and
    libpng. An animation gives its first frame. Raises whatever the decoder raises for a file that is not an image.
    """
    from PIL import Image

    if not S_ISREG(path.stat().st_mode):  # reading a pipe would block
        raise ValueError("no regular file")
    image = open_rgb(path)
    width, height = image.size
    short = min(width, height)
    size = (int(resize * width / short), int(resize * height / short))
    if size[0] * size[1] > 2 * (Image.MAX_IMAGE_PIXELS or 0) > 0:
        raise ValueError(f"{width}x{height} pixels would become {size[0]}x{size[1]}")
    left, top = (round((side - crop) / 2) for side in size)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))
