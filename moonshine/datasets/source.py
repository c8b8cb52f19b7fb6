"""The common form in which every kind of dataset delivers its images, and the checks that all of them pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from moonshine.errors import MoonshineError

Array = NDArray[Any]
SMALLEST = 8
"""Pixels on the shorter side of an image, at least: three stages halve it twice."""


class Images(Protocol):
    """What is needed of an array of images, so that files can be decoded piece by piece instead."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, indices: Any, /) -> Array: ...


class UnreadableImages(MoonshineError):
    """Some images below ``where`` cannot be read; ``failures``: file -> reason."""

    def __init__(self, where: str, failures: Mapping[str, str]) -> None:
        self.failures = dict(failures)
        count = len(failures)
        super().__init__(
            f"{where}: {count} {'image' if count == 1 else 'images'} cannot be read: "
            + some([f"{name} ({reason})" for name, reason in failures.items()])
            + "; repair or remove them (the checksum changes with that)"
        )


def some(names: list[str]) -> str:
    """The names, or the first ten and how many more there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


@dataclass(frozen=True, eq=False)
class Source:
    """Arrays as a dataset kind found them: images uint8 (N, H, W) or (N, H, W, C), labels (N,) or (N, 1).

    ``where`` names the origin in errors (a path); ``description`` says it in words that are the same on every
    machine; ``sha256`` is that of the origin, of one file or by file name. ``class_names`` None: the labels
    themselves. ``resize_rule`` None: the images have the size that they were found in.
    """

    where: str
    description: str
    sha256: str | dict[str, str]
    train_images: Images
    train_labels: Array
    test_images: Images
    test_labels: Array
    validation_images: Images | None = None
    validation_labels: Array | None = None
    class_names: tuple[str, ...] | None = None
    resize_rule: Mapping[str, Any] | None = None


def check(source: Source) -> Source:
    """The same source with labels (N,) int64, images (N, H, W, C), and class names, all consistent.

    Raises MoonshineError naming the array, what was found and what is allowed: image type, shape and size,
    label type, shape and range, counts that differ, a class without training images, a single class.
    """
    splits = ["train", "test"]
    if source.validation_images is not None or source.validation_labels is not None:
        splits.append("validation")
    checked: dict[str, Any] = {}
    for split in splits:
        images, labels = getattr(source, f"{split}_images"), getattr(source, f"{split}_labels")
        images = _images(f"{source.where}: {split}_images", images)
        labels = _labels(f"{source.where}: {split}_labels", labels)
        if len(images) != len(labels):
            raise MoonshineError(
                f"{source.where}: {split} has {len(images)} images and {len(labels)} labels; "
                "allowed: one label per image"
            )
        first = checked.get("train_images", images)
        if images.shape[1:] != first.shape[1:]:
            raise MoonshineError(
                f"{source.where}: {split}_images are (height, width, channels) {images.shape[1:]}; "
                f"allowed: {first.shape[1:]} as in train_images"
            )
        checked |= {f"{split}_images": images, f"{split}_labels": labels}
    names = _class_names(f"{source.where}: train_labels", checked["train_labels"], source.class_names)
    for split in splits:
        _in_range(f"{source.where}: {split}_labels", checked[f"{split}_labels"], len(names))
    return replace(source, class_names=names, **checked)


def _images(name: str, images: Any) -> Images:
    if images is None:
        raise MoonshineError(f"{name} is missing")
    if images.dtype != np.uint8:
        raise MoonshineError(f"{name} has type {images.dtype}; allowed: uint8 (0 to 255)")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise MoonshineError(
            f"{name} has shape {images.shape}; allowed: (N, height, width) or (N, height, width, channels), "
            "none of them 0"
        )
    images = images if images.ndim == 4 else images[..., None]
    if min(images.shape[1:3]) < SMALLEST:
        raise MoonshineError(
            f"{name} has images of height {images.shape[1]}, width {images.shape[2]} and {images.shape[3]} "
            f"channels; allowed: at least {SMALLEST}x{SMALLEST}, channels last"
        )
    return images


def _labels(name: str, labels: Any) -> Array:
    if labels is None:
        raise MoonshineError(f"{name} is missing")
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


def _class_names(name: str, train_labels: Array, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """Names of the classes, which must each have training images: 0 to K - 1, K at least 2."""
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
