"""Arrays of images: their checks, and their conversion to the prepared form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moonshine.datasets.kind import ImageArrays, UnreadableImages
from moonshine.errors import MoonshineError
from moonshine.preparation.tensors import CHUNK, Parts, reserve, resize_rule
from moonshine.progress import ReportProgress, silent

if TYPE_CHECKING:
    from moonshine.datasets.kind import Array

_MIN_SIDE = 8
"""Fewest pixels on the shorter side of an image: networks of three stages halve it twice."""
_MAX_COLOURS = 4
"""Most channels of images for which the study does not state the number: RGB and transparency."""
GREY_AS_COLOUR = (1, 3)
"""Channels found and stated, if the single channel is to be repeated."""


def check_images(source: ImageArrays) -> ImageArrays:
    """Return the source with labels (N,) int64, images (N, H, W, C), and class names, all consistent.

    MoonshineError naming the array, what was found and what is allowed: image type, shape and size, label type, shape
    and range, counts that differ, a class without training images, a single class.
    """
    splits: dict[str, tuple[Array, Array]] = {}
    for split, (images, labels) in source.splits.items():
        images = _images(f"{source.where}: {split}_images", images)
        labels = _labels(f"{source.where}: {split}_labels", np.asarray(labels))
        if len(images) != len(labels):
            raise MoonshineError(
                f"{source.where}: {split} has {len(images)} images and {len(labels)} labels; "
                "allowed: one label per image"
            )
        splits[split] = images, labels
        first = splits["train"][0]
        if images.shape[1:] != first.shape[1:]:
            raise MoonshineError(
                f"{source.where}: {split}_images are (height, width, channels) {images.shape[1:]}; "
                f"allowed: {first.shape[1:]} as in train_images"
            )
    names = _class_names(f"{source.where}: train_labels", splits["train"][1], source.class_names)
    for split, (_, labels) in splits.items():
        _in_range(f"{source.where}: {split}_labels", labels, len(names))
    return replace(source, class_names=names, splits=splits)


def _images(name: str, images: Array) -> Array:
    if images.dtype != np.uint8:
        raise MoonshineError(f"{name} has type {images.dtype}; allowed: uint8 (0 to 255)")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise MoonshineError(
            f"{name} has shape {images.shape}; allowed: (N, height, width) or (N, height, width, channels), "
            "none of them 0"
        )
    images = images if images.ndim == 4 else images[..., None]
    if min(images.shape[1:3]) < _MIN_SIDE:
        raise MoonshineError(
            f"{name} has images of height {images.shape[1]}, width {images.shape[2]} and {images.shape[3]} "
            f"channels; allowed: at least {_MIN_SIDE}x{_MIN_SIDE}, channels last"
        )
    return images


def _labels(name: str, labels: Array) -> Array:
    if not np.issubdtype(labels.dtype, np.integer):
        raise MoonshineError(f"{name} has type {labels.dtype}; allowed: integers, 0 to classes - 1")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise MoonshineError(f"{name} has shape {labels.shape}; allowed: (N,) or (N, 1), one label per image")
    labels = labels.astype(np.int64)
    negative = np.flatnonzero(labels < 0)
    if len(negative):
        raise MoonshineError(f"{name} has {labels[negative[0]]} at index {negative[0]}; allowed: 0 and above")
    return labels


def _class_names(name: str, train_labels: Array, names: Sequence[str] | None) -> Sequence[str]:
    """Return the names of the classes, 0 to K - 1, K at least 2, which must each have training images."""
    present = np.unique(train_labels)
    if len(present) == 1:
        raise MoonshineError(f"{name} has the single class {present[0]}; allowed: at least two classes")
    count = len(names) if names else int(present[-1]) + 1
    absent = set(range(len(present) + 1)) - set(present.tolist())
    if len(present) < count:
        raise MoonshineError(
            f"{name} runs from {present[0]} to {present[-1]} and has no image of class {min(absent)}; "
            "allowed: 0 to classes - 1, each at least once"
        )
    return names or tuple(str(label) for label in range(count))


def _in_range(name: str, labels: Array, classes: int) -> None:
    outside = np.flatnonzero(labels >= classes)
    if len(outside):
        index = int(outside[0])
        raise MoonshineError(f"{name} has {labels[index]} at index {index}; allowed: 0 to {classes - 1}")


def channels_of(source: ImageArrays) -> int:
    """Return the channels of the prepared images; MoonshineError if the study states others, or must state them."""
    shape = source.splits["train"][0].shape[1:]
    found, stated = shape[-1], source.channels
    if stated is None and found > _MAX_COLOURS:
        raise MoonshineError(
            f"data.channels: the images of {source.where} are {shape}, taken as (height, "
            f"width, channels); allowed without this key: up to {_MAX_COLOURS} channels, because arrays with channels "
            f"first, and volumes, look the same; where these really have {found} channels, say `channels: {found}`"
        )
    wanted: int = stated or found
    if found != wanted and (found, wanted) != GREY_AS_COLOUR:
        allowed = f"1 or {wanted}" if wanted == GREY_AS_COLOUR[1] else wanted
        raise MoonshineError(
            f"data.channels: {source.where} has images of {found} channels; allowed: {allowed}, as the last axis"
        )
    return wanted


def prepare_images(
    source: ImageArrays,
    parts: Parts,
    channels: int,
    folder: Path,
    progress: ReportProgress = silent,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return images, uint8 (N, C, H, W), and the keys of the description that concern their size.

    They are resized to ``source.size`` squared if that differs: bilinear, with antialiasing if they shrink.
    """
    found = source.splits["train"][0].shape[1:3]
    height, width = (source.size, source.size) if source.size else found
    rule = resize_rule(None if found == (height, width) else (height, width), antialias=height < max(found))
    images = {split: each for split, (each, _) in source.splits.items()}
    tensors = fill_tensors(images, parts, (channels, height, width), source.where, folder, progress)
    return tensors, {"height": height, "width": width, "resize_rule": rule}


def fill_tensors(
    images: Mapping[str, Any],
    parts: Parts,
    shape: tuple[int, int, int],
    where: str,
    folder: Path,
    progress: ReportProgress = silent,
) -> dict[str, Tensor]:
    """Return the chosen images of each split, uint8 (N, C, H, W) of ``shape``.

    The images of a split are an array (N, H, W, C), or an object that returns one when indexed. UnreadableImages names
    all failures.
    """
    tensors: dict[str, Tensor] = {}
    failures: dict[str, str] = {}
    done, total = 0, sum(len(indices) for _, indices in parts.values())
    for split, (origin, indices) in parts.items():
        planar = reserve(folder, (len(indices), *shape))
        step = max(1, CHUNK // max(prod(images[origin].shape[1:]), prod(shape)))
        for start in range(0, len(indices), step):
            try:
                chunk = images[origin][indices[start : start + step]]
            except UnreadableImages as error:
                failures |= error.failures
                continue
            # If colour is wanted, assignment repeats the single channel of grey images.
            planar[start : start + step] = _resized(torch.from_numpy(chunk).permute(0, 3, 1, 2), *shape[1:])
            done += len(chunk)
            progress("images prepared", done, total)
        tensors[f"{split}_images"] = planar
    if failures:
        raise UnreadableImages(f"data.root: {where}", failures)
    return tensors


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    if images.shape[2:] == (height, width):
        return images
    shrinks = height < images.shape[2] or width < images.shape[3]
    resized = F.interpolate(
        images.float(), (height, width), mode="bilinear", align_corners=False, antialias=shrinks
    )
    return resized.round().to(torch.uint8)
