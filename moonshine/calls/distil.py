"""``moonshine.distil``: a student, trained from its teacher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from moonshine.calls.given import check_types, checked_pair, section
from moonshine.calls.loaders import loaded_dataset
from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.training import Training
from moonshine.data.loader import Loader
from moonshine.data.store import Dataset, load_dataset
from moonshine.distillation.objective import distillation
from moonshine.errors import MoonshineError
from moonshine.training.checkpoint import Checkpoints
from moonshine.training.epoch import input_shape
from moonshine.training.execution import Execution
from moonshine.training.history import SILENT, History, Observer
from moonshine.training.labels import label_loss
from moonshine.training.train import train

NO_AUGMENT = {"crop_padding": 0, "flip": False}


def distil(
    student: nn.Module,
    teacher: nn.Module,
    data: Dataset | Path | str | Loader,
    *,
    method: Method | Mapping[str, Any],
    training: Training | Mapping[str, Any],
    augment: Augment | Mapping[str, Any] | None = None,
    seed: int = 0,
    taps: Sequence[str] | str | None = None,
    execution: Execution | None = None,
    checkpoints: Checkpoints | None = None,
    observer: Observer = SILENT,
) -> History:
    """Train ``student`` in place on ``data`` with the distillation ``method`` from ``teacher``.

    ``data`` is a dataset, a folder that ``moonshine.preparation.prepare.prepare_dataset`` wrote, or a loader: anything
    with a length that yields (images, labels) anew for every epoch, such as a DataLoader, its images normalised as the
    networks expect them and augmented, its labels int64. ``method``, ``training`` and ``augment`` are sections of a
    study or mappings as there; a loader has its own ``training.batch_size`` and augmentation, so both are left out
    beside one. ``taps`` as in `moonshine.objective`. The teacher is afterwards as it was.
    MoonshineError, before anything trains, for arguments of other types, for networks, taps and a first batch that do
    not belong together, for networks that return probabilities, and for a loader without a length or of one epoch
    alone; in training for a label that is no class.
    """
    method = section("method", method, Method)
    networks = {"student": (student, nn.Module), "teacher": (teacher, nn.Module)}
    check_types(**networks, data=(data, Dataset | Path | str | Iterable))
    if isinstance(data, Dataset | Path | str):
        dataset = data if isinstance(data, Dataset) else load_dataset(Path(data))
        recipe = section("training", training, Training)
    elif augment is not None:
        raise MoonshineError(
            f"augment: found {augment} beside a loader; allowed: none, because its images come augmented and normalised"
        )
    else:
        dataset, recipe = loaded_dataset(data, student, teacher, training)
    changes = section("augment", NO_AUGMENT if augment is None else augment, Augment)
    method.check_mixes(changes)
    if execution is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        execution = Execution(device, torch.bfloat16 if recipe.precision == "bf16" else torch.float32)
    pair = checked_pair(student, teacher, method, input_shape(dataset, changes), taps)
    labels = label_loss(recipe, dataset.class_shares)
    with distillation(pair, method, recipe.epochs, execution, labels, seed) as objective:
        return train(
            student,
            objective,
            dataset,
            recipe,
            changes,
            execution,
            seed=seed,
            checkpoints=checkpoints,
            observer=observer,
        )
