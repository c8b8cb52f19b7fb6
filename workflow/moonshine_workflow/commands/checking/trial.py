"""Trial of a study on a few of its images: what its stages do, but for one batch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from moonshine.compression.network import decoded
from moonshine.config import Study
from moonshine.config.compression import Compress
from moonshine.config.methods import Method
from moonshine.config.networks import Mixed
from moonshine.costs.budgets import parse_budgets, show
from moonshine.data.description import Description
from moonshine.data.store import Dataset, load_dataset
from moonshine.distillation.objective import distillation
from moonshine.distillation.term import Pair
from moonshine.errors import MoonshineError
from moonshine.preparation.prepare import prepare_dataset
from moonshine.structures.build import from_structure
from moonshine.structures.structure import StudyStructure
from moonshine.training.epoch import input_shape
from moonshine.training.history import Observer
from moonshine.training.labels import label_loss
from moonshine.training.objective import Objective
from moonshine.training.train import train
from moonshine.training.updates.compressing import Compressing
from moonshine.training.updates.freezing import frozen
from moonshine_workflow.stages.structure import student_structure
from moonshine_workflow.students.layouts import Images, naming_key, teacher_structure
from moonshine_workflow.students.sizes import measured_values
from moonshine_workflow.students.trial import try_out
from moonshine_workflow.training.given import start_pretrained
from moonshine_workflow.training.launch import check_devices
from moonshine_workflow.training.placement import execution_here

CPU_BATCH = 32
"""Most images of the batch on a CPU, where a whole one may take minutes; on a GPU its memory is tried too."""
SHORT = {"candidates": 1, "best": 1, "initialisations": 1, "score": "parameters", "finalists": None}
"""Settings of a search that only finds out whether its budget can be met."""


class _FirstBatch(Exception):
    """Raised after the first batch, to leave the training loop."""


class _Stop(Observer):
    def batch(self, done: int, total: int) -> None:
        raise _FirstBatch


@dataclass
class Trial:
    """A study with a few of its images; networks that were found to train are ``built``."""

    study: Study
    dataset: Dataset
    images: Images
    counts: str
    built: dict[str, tuple[StudyStructure, nn.Module]] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.counts

    @classmethod
    def prepare(cls, study: Study, folder: Path) -> Trial:
        """Verify the study's data and prepare a few images below ``folder``, as many as have every class."""
        torch.set_num_threads(study.runtime.threads)
        check_devices(study)
        few = max(CPU_BATCH, *(study.recipe(student).batch_size for student in (None, *study.students)))
        description = _smallest(study, folder, min(few, study.data.limit or few))
        dataset = load_dataset(folder)
        # how many images an epoch has is not known from a subset
        unknown = description.model_copy(update={"counts": {**description.counts, "train": 0}})
        shape = "x".join(map(str, description.image_shape))
        said = f"{description.source}, images of {shape}, {description.num_classes} classes"
        return cls(study, dataset, Images(description.image_shape, description.num_classes, unknown), said)

    def teacher(self) -> str:
        """Build the teacher, load its weights, and train it on a batch unless it is only evaluated."""
        study = self.study
        structure = teacher_structure(study, self.images)
        naming_key("teacher", lambda: try_out(study, structure, self.images))
        network = from_structure(structure, study.trusted)
        if study.teacher.weights:
            structure = start_pretrained(network, structure, study.teacher)
        self.built["teacher"] = structure, network
        if study.teacher.is_trained:
            with frozen(network, structure.start.frozen) if structure.start else nullcontext():
                self._train(None, network)
        weights = f", {structure.start.loaded} tensors loaded" if structure.start else ""
        return f"{structure.network}, {structure.parameters:,} parameters{weights}"

    def student(self, name: str) -> str:
        """Lay out a student, and train it on a batch from scratch and with every method."""
        study = self.study
        student = study.students[name]
        if student.mixed:
            short = student.model_copy(update={"mixed": Mixed(**{**dict(student.mixed), **SHORT})})
            study = study.model_copy(update={"students": {**study.students, name: short}})
        teacher, original = self.built["teacher"]
        structure = student_structure(study, name, self.images, teacher, lambda: self.dataset)
        network = from_structure(structure, study.trusted)
        self._train(name, network)
        for method in study.methods.values():
            self._train(name, network, method, Pair(network, original, teacher.taps, self._input))
        made = f"{structure.network} with {structure.block}, {structure.parameters:,} parameters"
        if structure.compress:
            made += f", {self._compress(name, network, structure.compress):,} bytes of network.dc"
        self.built[name] = structure, network
        return made

    def budget(self) -> str:
        """Compare each student with the budget; MoonshineError if none fits."""
        assert self.study.ship
        budgets = parse_budgets(self.study.ship.budget)
        within: dict[bool, list[str]] = {True: [], False: []}
        for name in [name for name in self.study.students if name in self.built]:
            structure, network = self.built[name]
            measures = [budget.measure for budget in budgets]
            values = measured_values(network, self.images, structure, measures, self.study.runtime.threads)
            fits = all(budget.allows(values[budget.measure]) for budget in budgets)
            within[fits].append(f"{name} ({', '.join(show(*each) for each in values.items())})")
        limits = " and ".join(map(str, budgets))
        if not within[True]:
            raise MoonshineError(
                f"ship.budget: found {limits}, within which is none of {', '.join(within[False])}; nothing would ship"
            )
        others = f"; beyond: {', '.join(within[False])}" if within[False] else ""
        return f"within {limits}: {', '.join(within[True])}{others}"

    @property
    def _input(self) -> tuple[int, ...]:
        return input_shape(self.dataset, self.study.augment)

    def _compress(self, student: str, network: nn.Module, settings: Mapping[str, Any]) -> int:
        """Prune and share a network's weights without training between; return the bytes of its file."""
        compress = Compress.model_validate(settings)
        phases = Compressing(network, self.study.recipe(student), compress, is_trained=True)
        for epoch in range(compress.epochs):
            phases.begin(epoch)
        return decoded(network)

    def _train(
        self, student: str | None, network: nn.Module, method: Method | None = None, pair: Pair | None = None
    ) -> None:
        study, recipe = self.study, self.study.recipe(student)
        torch.manual_seed(0)
        with execution_here(study) as execution:
            size = recipe.batch_size if execution.device.type == "cuda" else min(recipe.batch_size, CPU_BATCH)
            labels = label_loss(recipe, self.dataset.class_shares)
            losses = (
                distillation(pair, method, recipe.epochs, execution, labels)
                if pair and method
                else nullcontext(Objective(labels))
            )
            with losses as objective:
                try:
                    train(
                        network,
                        objective,
                        self.dataset,
                        recipe.model_copy(update={"batch_size": size}),
                        study.augment,
                        execution,
                        seed=0,
                        observer=_Stop(),
                    )
                except _FirstBatch:
                    pass
                except torch.OutOfMemoryError:
                    raise MoonshineError(
                        f"a batch of {size} images does not fit in the device's memory; allowed: a smaller batch_size"
                    ) from None


def _smallest(study: Study, folder: Path, few: int) -> Description:
    """Prepare about so many images of each split, or all where so few would leave a class out."""
    try:
        return prepare_dataset(study.data.model_copy(update={"limit": few}), folder)
    except MoonshineError as error:
        if "data.limit" not in str(error):
            raise
    return prepare_dataset(study.data, folder)
