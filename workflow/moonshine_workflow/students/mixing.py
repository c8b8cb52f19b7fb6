"""Search for a mixed student, under its budget and on one minibatch of the study's data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from moonshine.blocks.presets import choices
from moonshine.config import Study
from moonshine.config.augment import Augment
from moonshine.config.networks import Finalists, Mixed
from moonshine.config.training import OneCycle, Optimizer, Training
from moonshine.data.batches import batches
from moonshine.data.store import Dataset
from moonshine.errors import MoonshineError
from moonshine.formats.sizes import exported_bytes
from moonshine.progress import ReportProgress
from moonshine.search.search import search
from moonshine.search.space import Space
from moonshine.structures.describe import places_of
from moonshine.structures.structure import MIXED, Structure
from moonshine.training.evaluation import evaluate
from moonshine.training.execution import Execution
from moonshine.training.objective import Objective
from moonshine.training.train import train
from moonshine_workflow.students.layouts import Images
from moonshine_workflow.students.sizes import about_of
from moonshine_workflow.training.placement import execution_here

BATCH_SIZE = 64
MOST_PIXELS = 500 * 64 * 64
"""Default number of images that candidates are scored on, and the most pixels that these may have in all."""


def mix(
    study: Study, mixed: Mixed, images: Images, dataset: Dataset, progress: ReportProgress | None = None
) -> Structure:
    """Return the structure of the best mixed student within the budget, with the record of the search.

    Raises MoonshineError for a budget that cannot be met, naming the limiting factor, and for ``finalists`` without a
    validation split to choose among them.
    """
    teacher = study.teacher
    structure, fitting, refused = places_of(
        teacher.name,
        teacher.kwargs,
        images.classes,
        images.shape,
        choices(mixed.blocks),
        teacher.include,
        teacher.exclude,
        dense=study.data.is_dense,
    )
    space = Space(structure, fitting, refused, images.shape, study.trusted)
    if mixed.finalists and dataset.validation is None:
        raise MoonshineError(
            "mixed.finalists: the study has no validation split to choose among them; allowed: data.validation above 0"
        )
    inputs, labels = next(
        batches(
            dataset.train,
            batch_size=scored_on(mixed, images.shape),
            seed=mixed.seed,
            epoch=0,
            augment=None,
            mean=dataset.mean,
            std=dataset.std,
            device="cpu",
        )
    )

    def size(network: nn.Module, measure: str) -> int:
        return exported_bytes(measure, network, images.shape, about_of(images, structure))

    with ExitStack() as held:
        finalist = None
        if mixed.finalists:
            execution = held.enter_context(execution_here(study, precision="fp32"))
            finalist = _finalist(space, mixed.finalists, dataset, execution, mixed.seed)
        found = search(space, mixed, inputs, labels, finalist=finalist, size=size, progress=progress)
    about: dict[str, Any] = {"settings": settings_of(mixed)}
    if scored_on(mixed, images.shape) < about["settings"]["batch_size"]:
        about["images"] = len(inputs)
    if refused:
        about["left_out"] = refused
    return structure.with_blocks(found.chosen.blocks, block=MIXED, search=found.model_copy(update=about))


def settings_of(mixed: Mixed) -> dict[str, Any]:
    """Return the settings of a search, as recorded in a structure under ``search``."""
    return {**mixed.model_dump(mode="json"), "batch_size": mixed.batch_size or BATCH_SIZE}


def scored_on(mixed: Mixed, shape: tuple[int, int, int]) -> int:
    """Return the number of images of ``shape`` (channels, height, width) that candidates are scored on.

    By default at most `MOST_PIXELS` in all (3 images of 512x1024, 40 of 224x224), since the memory of a backward pass
    grows with them, for ERFNet by 1.8 kB per pixel.
    """
    if mixed.batch_size is not None:
        return mixed.batch_size
    return min(BATCH_SIZE, max(2, MOST_PIXELS // (shape[1] * shape[2])))


def _finalist(
    space: Space, finalists: Finalists, dataset: Dataset, execution: Execution, seed: int
) -> Callable[[Mapping[str, str]], float]:
    """Return a function that trains a mixture briefly and returns its validation error in percent."""
    training = Training(
        epochs=finalists.epochs,
        batch_size=finalists.batch_size,
        optimizer=Optimizer(lr=finalists.lr, momentum=0.9, weight_decay=5e-4, nesterov=False),
        schedule=OneCycle(kind="one-cycle", warmup=0.3, start=0.1, end=0.001),
        precision="fp32",
    )

    def error(blocks: Mapping[str, str]) -> float:
        torch.manual_seed(seed)
        network: nn.Module = space.build(blocks)
        augment = Augment(crop_padding=0, flip=False)
        history = train(network, Objective(), dataset, training, augment, execution, seed=seed)
        if history.status == "diverged":
            return math.inf
        assert dataset.validation is not None
        return float(evaluate(network, dataset.validation, dataset, execution)["error_pct"])

    return error
