"""Training steps of a study: each distinct one is timed once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache

from moonshine.config import Study
from moonshine.config.methods import Method
from moonshine.costs.budgets import parse_budgets
from moonshine.search.rivals import rival
from moonshine.structures.structure import Structure, StudyStructure
from moonshine_workflow.commands.estimating.dataset_size import DatasetSize
from moonshine_workflow.graph import nodes
from moonshine_workflow.students.layouts import (
    Images,
    describe_network,
    naming_key,
    teacher_structure,
    uniform_structure,
)
from moonshine_workflow.students.mixing import settings_of

TEACHER, SCRATCH = "teacher", "scratch"


@dataclass(frozen=True)
class TimedStep:
    """An optimiser step on a batch; ``teacher`` and ``method`` are None where there is no distillation.

    ``key`` says what its speed depends on, in words and with a checksum of the networks.
    """

    key: str
    structure: Structure
    teacher: StudyStructure | None = None
    method: Method | None = None


Steps = dict[tuple[str, str], tuple[tuple[int, TimedStep], ...]]
"""Phases of a training, with their epochs, by student and `SCRATCH` or the key of a method.

The teacher comes first, as `TEACHER` twice; of one that comes with its weights, what its training would be.
"""


def steps_of(study: Study, size: DatasetSize) -> tuple[Steps, list[str]]:
    """Return the step of every kind of node that trains, and the mixed students that were not searched for yet.

    MoonshineError naming the key of the study for a network that cannot be built.
    """
    images = Images(size.shape, size.classes)
    teacher = teacher_structure(study, images)
    # laying out a model takes seconds: once, not for every block
    layout = cache(lambda network: describe_network(study, network, images))

    def structure_of(name: str) -> Structure | None:
        key, student = f"students.{name}", study.students[name]
        if student.mixed:
            return _searched(study, name, images)
        network, block = study.network_of(name), study.block_of(name)
        if student.rival:
            scale, budgets = student.rival.scale, parse_budgets(student.rival.budget)
            found = naming_key(
                key, lambda: rival(study.teacher.name, scale, budgets, images.classes, images.shape)
            )
            return uniform_structure(study, found, "S", images)
        return naming_key(key, lambda: uniform_structure(study, network, block, images, layout))

    crop, epochs = tuple(study.augment.crop or size.shape[1:]), study.training.epochs

    def step_of(structure: Structure, method: Method | None = None) -> TimedStep:
        if method is None:
            return TimedStep(_key(study, "ce", crop, structure), structure)
        return TimedStep(_key(study, method.loss, crop, structure, teacher), structure, teacher, method)

    found: Steps = {(TEACHER, TEACHER): ((epochs, step_of(teacher)),)}
    unknown = []
    for name in study.students:
        structure = structure_of(name)
        if structure is None:
            unknown.append(name)
            continue
        found[name, SCRATCH] = ((epochs, step_of(structure)),)
        for key, method in study.methods.items():
            found[name, key] = tuple(
                (count, step_of(structure, part)) for count, part in method.phases(epochs)
            )
    return found, unknown


def distinct(steps: Steps) -> dict[str, TimedStep]:
    """Return the steps by their keys."""
    return {step.key: step for phases in steps.values() for _, step in phases}


def _key(study: Study, loss: str, size: tuple[int, ...], *structures: Structure) -> str:
    network, block, training = structures[0].network, structures[0].block, study.training
    built_from = [each.rebuilt_from() for each in structures]
    checksum = hashlib.sha256(json.dumps(built_from, sort_keys=True).encode()).hexdigest()
    return (
        f"{network if block == 'S' else f'{network} with {block}'}, {loss}, batches of {training.batch_size} of "
        f"{'x'.join(map(str, size))}, {training.optimizer.kind}, precision {training.precision}, {checksum[:12]}"
    )


def _searched(study: Study, name: str, images: Images) -> Structure | None:
    """Return what a search with these settings has found, None where none has run."""
    mixed, path = study.students[name].mixed, nodes.structure(study.study, name).outputs[0]
    assert mixed
    found = StudyStructure.read(path) if path.exists() else None
    wanted = settings_of(mixed), images.classes, images.shape[0]
    if found and found.search and (found.search.settings, found.num_classes, found.in_channels) == wanted:
        return found
    return None
