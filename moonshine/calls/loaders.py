"""Loaders of the caller's own as the data that training and export read, after a look at what they yield."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from moonshine.calls.given import check_batch, check_labels, logits_shape, section
from moonshine.config.training import Training
from moonshine.data.loader import LoadedSplit, Loader
from moonshine.data.store import AnySplit, Dataset, Split
from moonshine.errors import MoonshineError
from moonshine.networks.passes import evaluating

logger = logging.getLogger("moonshine")

TOLERANCE = 0.01
"""How far pixels may be outside [0, 1] by rounding, and by resizing that overshoots."""


def first_batch(name: str, loader: Loader) -> tuple[Tensor, Tensor]:
    """Return the first images and labels; MoonshineError for a loader without a length, or that cannot begin anew."""
    try:
        count, batches = len(loader), iter(loader)
    except TypeError as error:
        raise MoonshineError(
            f"{name}: found a {type(loader).__name__} without a length ({error}); allowed: one whose len() is its "
            "number of batches, as a DataLoader's is (of an IterableDataset that defines __len__), or a list of batches"
        ) from None
    if batches is cast(object, loader):
        raise MoonshineError(
            f"{name}: found a {type(loader).__name__}, which yields its batches once; allowed: one that begins "
            "anew for every epoch"
        )
    if not count:
        raise MoonshineError(f"{name}: found a loader of 0 batches; allowed: at least 1")
    return check_batch(next(batches))


def loaded_dataset(
    loader: Loader, student: nn.Module, teacher: nn.Module, training: Any
) -> tuple[Dataset, Training]:
    """Return a dataset that is good for training ``student`` alone, and the recipe with the loader's batch size.

    MoonshineError as `first_batch`, for labels that are no classes of the student's, and for settings of ``training``
    that are the loader's own or need prepared data.
    """
    images, labels = first_batch("data", loader)
    shape = tuple(images.shape[1:])
    logits = logits_shape("student", student, shape)
    check_labels(images, labels, logits)
    warn_if_guessing(teacher, images, labels, logits)
    if isinstance(training, Mapping):
        training = {"batch_size": len(images), **training}
    recipe = section("training", training, Training)
    own = {
        "batch_size": (recipe.batch_size, len(images), "that of the loader's batches, or none"),
        "class_weights": (recipe.class_weights, None, "none beside a loader"),
        "devices": (recipe.devices, 1, "1"),
    }
    for key, (found, wanted, allowed) in own.items():
        if found != wanted:
            raise MoonshineError(f"training.{key}: found {found}; allowed: {wanted}, {allowed}")

    def checked(batch: Any) -> tuple[Tensor, Tensor]:
        images, labels = check_batch(batch, shape[0])
        if labels.device.type == "cpu":  # elsewhere a look at them would wait for the device
            check_labels(images, labels, logits)
        return images, labels

    train = cast(AnySplit, LoadedSplit(loader, shape, checked))
    names = tuple(map(str, range(logits[1])))
    no_mean, no_std = (0.0,) * shape[0], (1.0,) * shape[0]
    return Dataset("loader", train, None, train, no_mean, no_std, logits[1], names), recipe


@torch.no_grad()
def warn_if_guessing(
    teacher: nn.Module, images: Tensor, labels: Tensor, student_logits: Sequence[int]
) -> None:
    """Log a warning if a teacher of the student's classes is no better than a guess on a batch.

    It then expects other images, such as normalised ones, or has the classes in another order.
    """
    device = next((own.device for own in teacher.parameters()), images.device)
    with evaluating(teacher):
        logits = teacher(images.to(device).clone())
    classes = logits.shape[1]
    if classes != student_logits[1]:
        return
    right = float((logits.argmax(1).to(labels.device) == labels).float().mean())
    by_chance = 1 / classes
    # three standard errors of that many guesses
    if right <= by_chance + 3 * (by_chance * (1 - by_chance) / labels.numel()) ** 0.5:
        logger.warning(
            "the teacher is right on %.0f %% of the first batch, as a guess among %d classes may be: are the images "
            "normalised as it expects, and the classes in its order?",
            100 * right,
            classes,
        )


def pixel_split(
    name: str, loader: Loader, mean: Sequence[float], std: Sequence[float], most: int | None = None
) -> Split:
    """Return the images of a loader, ``most`` of them or all, as bytes, which files take, with their labels.

    ``mean`` and ``std`` per channel are what the loader normalises with. MoonshineError where that cannot be, since no
    image has a value below 0, or one of them is not in [0, 1] without it.
    """
    channels = first_batch(name, loader)[0].shape[1]
    for key, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise MoonshineError(
                f"{key}: found {tuple(values)}; allowed: one number for each of {channels} channels"
            )
    centre, spread = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    parts: list[tuple[Tensor, Tensor]] = []
    lowest, least, greatest = math.inf, math.inf, -math.inf
    for batch in loader:
        images, labels = (part.cpu() for part in check_batch(batch, channels))
        pixels = images.float() * spread + centre
        lowest = min(lowest, float(images.min()))
        least, greatest = min(least, float(pixels.min())), max(greatest, float(pixels.max()))
        parts.append(((255 * pixels).round().clamp(0, 255).to(torch.uint8), labels))
        if most is not None and sum(len(labels) for _, labels in parts) >= most:
            break
    if least < -TOLERANCE or greatest > 1 + TOLERANCE:
        raise MoonshineError(
            f"{name}: with mean {tuple(mean)} and std {tuple(std)} undone, its pixels reach from {least:.2f} to "
            f"{greatest:.2f}; allowed: 0 to 1, and the mean and std that the loader normalises with (None if it "
            "does not)"
        )
    if lowest >= 0 and min(mean) > 0:
        raise MoonshineError(
            f"{name}: its images have no value below {lowest:.2f}, so they are not normalised with mean {tuple(mean)}; "
            "allowed: images as the network is trained on, and the mean and std that made them so"
        )
    images, labels = (torch.cat(each)[:most] for each in zip(*parts, strict=True))
    return Split(images, labels)
