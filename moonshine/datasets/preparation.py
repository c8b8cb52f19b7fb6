"""Preparation of a dataset of any kind: from its source to the two files of prepared data."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moonshine.data.store import SPLITS, write
from moonshine.datasets import (
    arrays,
    cifar,
    cityscapes,
    digits,
    generated,
    generated_maps,
    image_folder,
    imagenet,
    picture_files,
    segmentation_folder,
)
from moonshine.datasets.source import Array, Images, Source, UnreadableImages, check
from moonshine.datasets.splitting import Indices, hold_out
from moonshine.datasets.statistics import mean_and_std
from moonshine.datasets.storage import room
from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from moonshine.config.data import Data

KINDS: dict[str, Callable[[Any], Source]] = {
    "digits": digits.read,
    "cifar10": cifar.read,
    "cifar100": cifar.read,
    "arrays": arrays.read,
    "image_folder": image_folder.read,
    "generated images": generated.read,
}
"""``data.name``, with ``data.kind`` where there is one -> reader of that kind, which takes its section of the study."""

OWN: dict[str, Callable[[Any, Path], dict[str, Any]]] = {
    "cityscapes": cityscapes.prepare,
    "segmentation_folder": segmentation_folder.prepare,
    "picture_files": picture_files.prepare,
    "imagenet": imagenet.prepare,
    "generated maps": generated_maps.prepare,
    "generated pictures": generated.prepare_pictures,
}
"""The same names -> preparation of a kind that is not one label for each decoded image."""

CHUNK = 1 << 21
"""Pixels times channels converted at once: what is copied on the way stays small at every number and size of images."""
COLOURS = 4
"""Channels that images have without saying so, at most: RGB and transparency."""
GREY_AS_COLOUR = (1, 3)
"""Channels found and stated where the one is repeated."""


def prepare(config: Data, folder: Path | str) -> dict[str, Any]:
    """Read, verify and split the data of a study, write it into ``folder``, and return its description.

    Images become uint8 (N, C, H, W), resized to ``config.size`` squared where that differs (bilinear, with
    antialiasing where they shrink; pictures of a folder are resized and cropped as it says instead).
    ``config.validation`` of the training images, stratified, become the validation split unless the source brings its
    own. ``mean`` and ``std`` are ``config.normalisation``, else those of the training images that remain;
    ``resize_rule`` says what was done to the size. The same study gives the same bytes. Nothing is left behind before
    everything is verified, and images that do not fit in memory wait in a nameless file beside ``folder``.
    Raises MoonshineError for data that is missing, damaged or inconsistent, and for a folder that cannot be
    written.
    """
    folder = Path(folder)
    kind = " ".join(filter(None, (config.name, getattr(config, "kind", None))))
    if kind in OWN:
        return OWN[kind](config, folder)
    source = check(KINDS[kind](config))
    channels = _channels(source, config)
    size = getattr(config, "size", None)  # pictures of a folder have the size that they are decoded to
    tensors = {}
    failures: dict[str, str] = {}
    for name, (images, labels, indices) in _parts(source, config).items():
        height, width = (size, size) if size else images.shape[1:3]
        planar = room(folder, (len(indices), channels, height, width))
        failures |= _fill(planar, images, indices)
        tensors[f"{name}_images"] = planar
        tensors[f"{name}_labels"] = torch.from_numpy(labels[indices])
    if failures:
        raise UnreadableImages(f"data.root: {source.where}", failures)
    train = tensors["train_images"]
    names = source.class_names or ()
    mean, std = _normalisation(source, config, train)
    description = {
        "name": config.name,
        "counts": {name: len(tensors.get(f"{name}_labels", ())) for name in SPLITS},
        "channels": train.shape[1],
        "height": train.shape[2],
        "width": train.shape[3],
        "resize_rule": source.resize_rule or _resize_rule(source.train_images.shape[1:3], size),
        "num_classes": len(names),
        "class_names": list(names),
        "mean": mean,
        "std": std,
        "source": source.description,
    }
    return write(folder, tensors, description, source.sha256)


def _parts(source: Source, config: Data) -> dict[str, tuple[Images, Array, Indices]]:
    """Split -> images, labels, and the indices of those that belong to it."""

    def whole(images: Images, labels: Array) -> tuple[Images, Array, Indices]:
        return images, labels, np.arange(len(labels))

    images, labels = source.train_images, source.train_labels
    parts = {"train": whole(images, labels), "test": whole(source.test_images, source.test_labels)}
    if source.validation_images is not None and source.validation_labels is not None:
        parts["validation"] = whole(source.validation_images, source.validation_labels)
    elif config.validation > 0:
        kept, held = hold_out(labels, config.validation, seed=config.split_seed, key="data.validation")
        parts |= {"train": (images, labels, kept), "validation": (images, labels, held)}
    return parts


def _fill(planar: Tensor, images: Images, indices: Indices) -> dict[str, str]:
    """Chosen images of (N, H, W, C) into (n, C, H', W'), resized; returns those that cannot be read and why."""
    step = min(_step(images.shape), _step(planar.shape))
    failures: dict[str, str] = {}
    for start in range(0, len(indices), step):
        try:
            chunk = torch.from_numpy(images[indices[start : start + step]]).permute(0, 3, 1, 2)
        except UnreadableImages as error:
            failures |= error.failures
            continue
        # Assignment repeats the single channel of grey images where colour is wanted.
        planar[start : start + step] = _resized(chunk, planar.shape[2], planar.shape[3])
    return failures


def _step(shape: tuple[int, ...]) -> int:
    """How many images of an array to convert at once."""
    return max(1, CHUNK // prod(shape[1:]))


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    if images.shape[2:] == (height, width):
        return images
    shrinks = height < images.shape[2] or width < images.shape[3]
    resized = F.interpolate(
        images.float(), (height, width), mode="bilinear", align_corners=False, antialias=shrinks
    )
    return resized.round().to(torch.uint8)


def _resize_rule(shape: tuple[int, ...], size: int | None) -> dict[str, Any]:
    """What ``_resized`` did to images of ``shape`` (height, width), in torchvision's terms."""
    if size is None or shape == (size, size):
        return {"resize": None, "crop": None, "interpolation": None, "antialias": None}
    return {
        "resize": [size, size],
        "crop": None,
        "interpolation": "bilinear",
        "antialias": size < max(shape),
    }


def _channels(source: Source, config: Data) -> int:
    """Channels of the prepared images; checked against what the study says of them."""
    found = source.train_images.shape[3]
    stated = getattr(config, "channels", None)
    if stated is None and found > COLOURS:
        raise MoonshineError(
            f"data.channels: the images of {source.where} are {source.train_images.shape[1:]}, taken as (height, "
            f"width, channels); allowed without this key: up to {COLOURS} channels, because arrays with channels "
            f"first, and volumes, look the same; where these really have {found} channels, say `channels: {found}`"
        )
    wanted: int = stated or found
    if found != wanted and (found, wanted) != GREY_AS_COLOUR:
        allowed = f"1 or {wanted}" if wanted == GREY_AS_COLOUR[1] else wanted
        raise MoonshineError(
            f"data.channels: {source.where} has images of {found} channels; allowed: {allowed}, as the last axis"
        )
    if config.normalisation and len(config.normalisation.mean) != wanted:
        raise MoonshineError(
            f"data.normalisation: mean and std have {len(config.normalisation.mean)} values for images of {wanted} "
            "channels; allowed: one of each per channel"
        )
    return wanted


def _normalisation(source: Source, config: Data, train: Tensor) -> tuple[list[float], list[float]]:
    if config.normalisation:
        return list(config.normalisation.mean), list(config.normalisation.std)
    return mean_and_std(source.where, train)
