"""The ``imagenet`` kind: ImageNet (ILSVRC 2012), downloaded by the user and extracted by torchvision."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonshine.datasets.checksums import of_sizes
from moonshine.datasets.encoding import Encoded, prepare_encoded
from moonshine.datasets.folder_listing import Listing, survey
from moonshine.datasets.source import some
from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from moonshine.config.data import Imagenet

CLASSES = 1000
COUNTS = {"train": 1_281_167, "val": 50_000}
SMALLEST = {"train": 732, "val": 50}
"""Pictures of the class that has the fewest."""

SPLITS = {"train": "train", "val": "test"}
"""Folder -> split: the labels of ImageNet's own test set are not public."""

ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
WNID = re.compile(r"n\d{8}")


def prepare(config: Imagenet, folder: Path) -> dict[str, Any]:
    """List ImageNet's pictures by split and class, and write the list into ``folder``: none is read.

    Classes are in the order of torchvision's weights. The checksum of the source is that of names and sizes, not of
    contents. MoonshineError for a folder that is missing, laid out otherwise or not extracted whole, which says what
    was expected where, and as for `moonshine.datasets.encoding.prepare_encoded`.
    """
    root = Path(config.root).expanduser()
    try:
        _check_extracted(root)
        listing = survey(root, tuple(SPLITS), ())
        _check_whole(listing)
        checksum = of_sizes(root, (name for names in listing.files.values() for name in names))
    except MoonshineError as error:
        raise MoonshineError(f"data.root: {error}; {_expected(config.root)}") from None
    except OSError as error:
        raise MoonshineError(f"data.root: {error.filename} cannot be read ({error.strerror})") from None
    encoded = Encoded(
        pictures=listing.by_split(SPLITS),
        class_names=class_names(),
        root=config.root,
        resize=config.resize,
        crop=config.crop,
        description="ImageNet (ILSVRC 2012), listed by name and size",
        sha256=checksum,
    )
    return prepare_encoded(
        encoded, config.name, config.validation, config.split_seed, config.normalisation, folder
    )


def class_names() -> list[str]:
    """The classes in words, in the order of their WordNet ids, as torchvision's weights name them."""
    from torchvision.models import ResNet34_Weights

    return list(ResNet34_Weights.DEFAULT.meta["categories"])


def _expected(root: str) -> str:
    return (
        f"expected: {COUNTS['train']:,} pictures as train/<wnid>/*.JPEG and {COUNTS['val']:,} as val/<wnid>/*.JPEG in "
        f"{CLASSES} folders each below {root}. ImageNet's licence leaves the download to you: put {ARCHIVES['train']}, "
        f"{ARCHIVES['val']} and ILSVRC2012_devkit_t12.tar.gz from image-net.org there, remove a train/ or val/ that is "
        'not whole, and run: python -c "from torchvision.datasets import ImageNet; '
        f"[ImageNet('{root}', split) for split in ('train', 'val')]\""
    )


def _check_extracted(root: Path) -> None:
    """Whether what lies there is half-way between the archives and folders of pictures."""
    for split, archive in ARCHIVES.items():
        if not (root / split).is_dir():
            if (root / archive).is_file():
                raise MoonshineError(f"{root / archive} is not extracted: there is no {split}/")
            continue
        entries = sorted(path.name for path in (root / split).iterdir())
        if left := [name for name in entries if name.endswith(".tar")]:
            raise MoonshineError(f"{root / split} is half extracted: it still holds {some(left)}")
        if flat := [name for name in entries if name.endswith(".JPEG")]:
            raise MoonshineError(
                f"{root / split} is half extracted: {len(flat):,} pictures lie beside its class folders, not in them"
            )


def _check_whole(listing: Listing) -> None:
    odd = [name for name in listing.classes if not WNID.fullmatch(name)]
    if odd:
        raise MoonshineError(f"{listing.root / 'train'} has folders that are no WordNet ids: {some(odd)}")
    for split, expected in COUNTS.items():
        where = listing.root / split
        sizes = [0] * len(listing.classes)
        for label in listing.labels[split]:
            sizes[label] += 1
        if len(sizes) - sizes.count(0) != CLASSES:
            raise MoonshineError(
                f"{where} has {len(sizes) - sizes.count(0)} class folders; allowed: {CLASSES}"
            )
        if sum(sizes) != expected:
            short = [
                f"{name} ({size})"
                for name, size in zip(listing.classes, sizes, strict=True)
                if size < SMALLEST[split]
            ]
            raise MoonshineError(
                f"{where} holds {sum(sizes):,} pictures; allowed: {expected:,}"
                + (f" (too few in {some(short)})" if short else "")
            )
