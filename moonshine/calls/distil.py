"""``moonshine.distil``: a student, trained from its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.training import Training
from moonshine.data.store import Dataset
from moonshine.distillation.objective import distillation
from moonshine.distillation.term import Pair
from moonshine.errors import MoonshineError
from moonshine.training.checkpoint import Checkpoints
from moonshine.training.execution import Execution
from moonshine.training.labels import label_loss
from moonshine.training.train import SILENT, History, Observer, input_shape, train


def distil(
    student: nn.Module,
    teacher: nn.Module,
    data: Dataset | Path | str,
    *,
    method: Method,
    training: Training,
    augment: Augment,
    seed: int = 0,
    taps: Sequence[str] | None = None,
    execution: Execution | None = None,
    checkpoints: Checkpoints | None = None,
    observer: Observer = SILENT,
) -> History:
    """Train ``student`` in place on ``data`` with the distillation ``method`` from ``teacher``.

    ``data`` is a dataset or a folder that ``moonshine.preparation.prepare.prepare_dataset`` wrote. ``taps`` defaults to
    ``teacher.taps``; a network without that attribute needs them given when attention is transferred.
    The teacher is afterwards as it was.
    Errors: ``MoonshineError`` for arguments of other types, for a network that returns probabilities, and for taps that
    are missing or differ in size between the two networks.
    """
    from moonshine.data.store import load_dataset

    _check_types(
        student=(student, nn.Module),
        teacher=(teacher, nn.Module),
        data=(data, Dataset | Path | str),
        method=(method, Method),
        training=(training, Training),
        augment=(augment, Augment),
    )
    method.check_mixes(augment)
    dataset = data if isinstance(data, Dataset) else load_dataset(Path(data))
    execution = execution or Execution(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    found = taps if taps is not None else getattr(teacher, "taps", None)
    pair = Pair(student, teacher, tuple(found or ()), input_shape(dataset, augment))
    labels = label_loss(training, dataset.class_shares)
    with distillation(pair, method, training.epochs, execution, labels, seed) as objective:
        return train(
            student,
            objective,
            dataset,
            training,
            augment,
            execution,
            seed=seed,
            checkpoints=checkpoints,
            observer=observer,
        )


def _check_types(**given: tuple[Any, Any]) -> None:
    for name, (value, allowed) in given.items():
        if not isinstance(value, allowed):
            kinds = getattr(allowed, "__args__", (allowed,))
            raise MoonshineError(
                f"{name}: found a {type(value).__name__}; allowed: "
                + " or ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
            )
