"""What a new study is about: the section ``data`` for a folder of images or an ``.npz``, and what was found there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from moonshine.datasets.arrays import Arrays
from moonshine.datasets.listing import Listing, checksum_of_contents, list_images
from moonshine.errors import MoonshineError
from moonshine.files import sha256

LOOKED_AT = 200
"""Most images whose size is read."""
VALIDATION = 0.2
CROP, RESIZE = 224, 256
"""What photographs become, as torchvision's own models have it."""
MULTIPLE = 8


@dataclass(frozen=True)
class Seen:
    """Section ``data``, (channels, height, width) of an image, numbers of classes and training images.

    ``said``: what was assumed, a sentence each; here and in the other parts of a new study.
    """

    section: dict[str, Any]
    shape: tuple[int, int, int]
    classes: int
    train: int
    said: list[str] = field(default_factory=list)


def look_at(data: Path, size: int | None, channels: int | None) -> Seen:
    """Look at the user's images; ``size`` is the side that a network sees, ``channels`` 3 where it takes colour.

    MoonshineError, naming ``--data``, for what is neither a folder of classes nor an ``.npz`` of arrays.
    """
    path = data.expanduser()
    if (path / "images").is_dir() and (path / "labels").is_dir():
        raise MoonshineError(
            f"--data: {data} has images with label maps, whose classes nothing names; allowed: a folder of classes or "
            "an .npz, or a params.yaml by hand: docs/segmentation.md"
        )
    try:
        return _folder(data, size) if path.is_dir() else _arrays(data, channels)
    except MoonshineError as error:
        raise MoonshineError(f"--data: {error}") from None


def _folder(data: Path, size: int | None) -> Seen:
    listing = list_images(data)
    train, _ = listing.splits["train"]
    sides = _shorter_sides(listing, train[:: -(-len(train) // LOOKED_AT)])
    middle = int(median(sides))
    if size is None:
        size = CROP if middle >= RESIZE else max(MULTIPLE, middle // MULTIPLE * MULTIPLE)
    resize = size * RESIZE // CROP if middle >= size * RESIZE // CROP else size
    own = "validation" in listing.splits
    said = [
        f"{len(listing.classes)} classes ({', '.join(listing.classes[:5])}{', ...' if listing.classes[5:] else ''}), "
        f"{len(train)} training images, shorter side {min(sides)} to {max(sides)} pixels: "
        f"the network sees {size} x {size}; another size: --size"
    ]
    section = {
        "name": "image_folder",
        "root": str(data),
        "sha256": checksum_of_contents(listing.root, listing.names),
        "resize": resize,
        "crop": size,
    }
    return Seen({**section, **_split(own, said)}, (3, size, size), len(listing.classes), len(train), said)


def _shorter_sides(listing: Listing, names: list[str]) -> list[int]:
    from PIL import Image, UnidentifiedImageError

    sides = []
    for name in names:
        try:
            with Image.open(listing.root / name) as image:
                sides.append(min(image.size))
        except (OSError, UnidentifiedImageError) as error:
            raise MoonshineError(f"{listing.root / name} is no readable image ({error})") from None
    return sides


def _arrays(data: Path, channels: int | None) -> Seen:
    path = data.expanduser()
    section: dict[str, Any] = {"name": "arrays", "path": str(data), "size": None}
    if not path.is_file():
        raise MoonshineError(
            f"{data} is neither a folder nor a file; allowed: a folder of images, or an .npz"
        )
    section["sha256"] = sha256(path)
    source = Arrays.model_validate({**section, "validation": 0.0, "split_seed": 0}).source()
    images, labels = source.splits["train"]
    found = images.shape[3] if images.ndim == 4 else 1
    if found == 1 and channels == 3:
        section["channels"] = 3
    shape = (section.get("channels", found), *images.shape[1:3])
    classes = len(np.unique(labels))
    said = [f"{classes} classes, {len(images)} training images of {shape[1]} x {shape[2]}"]
    return Seen({**section, **_split("validation" in source.splits, said)}, shape, classes, len(images), said)


def _split(has_own: bool, said: list[str]) -> dict[str, Any]:
    if not has_own:
        said.append(
            f"no validation images of their own: {VALIDATION:.0%} of the training images choose what ships"
        )
    return {"validation": 0.0 if has_own else VALIDATION, "split_seed": 0}
