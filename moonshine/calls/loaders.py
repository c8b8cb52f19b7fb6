"""A loader of the caller's own as the dataset that training reads, after a look at its first batch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from moonshine.calls.given import check_images, check_labels, logits_shape, section
from moonshine.config.training import Training
from moonshine.data.loader import LoadedSplit, Loader
from moonshine.data.store import AnySplit, Dataset
from moonshine.errors import MoonshineError
from moonshine.networks.passes import evaluating

logger = logging.getLogger("moonshine")


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
    return check_images(next(batches))


def loaded_dataset(loader: Loader, student: nn.Module, training: Any) -> tuple[Dataset, Training]:
    """Return a dataset that is good for training ``student`` alone, and the recipe with the loader's batch size.

    MoonshineError as `first_batch`, for labels that are no classes of the student's, and for settings of ``training``
    that are the loader's own or need prepared data.
    """
    images, labels = first_batch("data", loader)
    shape = tuple(images.shape[1:])
    logits = logits_shape("student", student, shape)
    check_labels(images, labels, logits)
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
        images, labels = check_images(batch, shape[0])
        if labels.device.type == "cpu":  # elsewhere a look at them would wait for the device
            check_labels(images, labels, logits)
        return images, labels

    train = cast(AnySplit, LoadedSplit(loader, shape, checked))
    names = tuple(map(str, range(logits[1])))
    no_mean, no_std = (0.0,) * shape[0], (1.0,) * shape[0]
    return Dataset("loader", train, None, train, no_mean, no_std, logits[1], names), recipe


@torch.no_grad()
def warn_if_guessing(teacher: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Log a warning if the teacher is no better than a guess on a batch: it expects other images, or other labels."""
    device = next((own.device for own in teacher.parameters()), images.device)
    with evaluating(teacher):
        logits = teacher(images.to(device).clone())
    classes = logits.shape[1]
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
