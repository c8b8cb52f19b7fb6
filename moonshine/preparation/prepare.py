"""Preparation of a dataset of any kind: its splits, tensors and description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from moonshine.data.description import Description
from moonshine.data.store import SPLITS, write_dataset
from moonshine.datasets.kind import DataSection, ImageArrays, ImageFiles, Scenes
from moonshine.datasets.splitting import hold_out, subset
from moonshine.errors import MoonshineError
from moonshine.preparation.files import pack_files, prepare_files
from moonshine.preparation.images import channels_of, check_images, prepare_images
from moonshine.preparation.label_maps import prepare_scenes
from moonshine.preparation.tensors import Parts, mean_and_std
from moonshine.progress import ReportProgress, silent

COLOUR = 3


def prepare_dataset(
    config: DataSection, folder: Path | str, progress: ReportProgress = silent
) -> Description:
    """Read, verify and split the data of a study, write them into ``folder``, and return their description.

    A share ``config.validation`` of the training images, stratified if an image has one label, becomes the validation
    split unless the source has its own; of each split at most ``config.limit`` images are used. ``mean`` and ``std``
    are ``config.normalisation``, else those of the remaining training images; ``resize_rule`` describes the resizing.
    The same study gives the same bytes. Nothing is written into ``folder`` before everything is verified, and images
    that do not fit in memory are kept in an unnamed temporary file beside it. ``progress`` is told how many images are
    prepared.
    MoonshineError for data that are missing, damaged or inconsistent, and for a folder that cannot be written.
    """
    folder = Path(folder)
    source = config.source()
    if isinstance(source, ImageArrays):
        source = check_images(source)
    channels = channels_of(source) if isinstance(source, ImageArrays) else COLOUR
    _check_normalisation(config, channels)
    if isinstance(source, Scenes):
        labels = {split: np.zeros(len(pairs), np.int64) for split, pairs in source.splits.items()}
    else:
        labels = {split: np.asarray(each, np.int64) for split, (_, each) in source.splits.items()}
    parts = _parts(labels, config)
    match source:
        case Scenes():
            tensors, about = prepare_scenes(source, parts, folder, progress)
        case ImageArrays():
            tensors, about = prepare_images(source, parts, channels, folder, progress)
        case ImageFiles():
            prepare = pack_files if config.is_encoded else prepare_files
            tensors, about = prepare(source, parts, folder, progress)
    if not isinstance(source, Scenes):
        for split, (origin, indices) in parts.items():
            tensors[f"{split}_labels"] = torch.from_numpy(labels[origin][indices])
    if config.normalisation:
        mean, std = config.normalisation.mean, config.normalisation.std
    else:
        mean, std = mean_and_std(source.where, tensors["train_images"])
    names = source.class_names or ()
    description = Description(
        **about,
        name=config.name,
        counts={split: len(parts[split][1]) if split in parts else 0 for split in SPLITS},
        channels=channels,
        num_classes=len(names),
        class_names=tuple(names),
        mean=tuple(mean),
        std=tuple(std),
        source=source.description,
    )
    if config.limit:
        description = description.model_copy(update={"limit": config.limit})
    return write_dataset(folder, tensors, description, source.sha256)


def _parts(labels: Mapping[str, NDArray[np.int64]], config: DataSection) -> Parts:
    """Return split -> split of the source that contains its images, and their indices there."""
    parts = {split: (split, np.arange(len(each))) for split, each in labels.items()}
    if "validation" not in parts and config.validation > 0:
        kept, held = hold_out(
            labels["train"], config.validation, seed=config.split_seed, key="data.validation"
        )
        parts |= {"train": ("train", kept), "validation": ("train", held)}
    if (most := config.limit) is None:
        return parts
    return {
        split: (
            origin,
            indices[subset(labels[origin][indices], most, seed=config.split_seed, split=split)],
        )
        for split, (origin, indices) in parts.items()
    }


def _check_normalisation(config: DataSection, channels: int) -> None:
    if config.normalisation and len(config.normalisation.mean) != channels:
        raise MoonshineError(
            f"data.normalisation: mean and std have {len(config.normalisation.mean)} values for images of {channels} "
            "channels; allowed: one of each per channel"
        )
