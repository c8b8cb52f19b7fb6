"""Training and evaluation steps of a study: each distinct one is timed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from moonshine.blocks.registry import parse
from moonshine.config import Study
from moonshine.config.methods import Method
from moonshine.costs.budgets import parse_budgets
from moonshine.errors import MoonshineError
from moonshine.networks.families import is_model
from moonshine.search.rivals import rival
from moonshine.structures.structure import Structure, StudyStructure
from moonshine_workflow.commands.estimating.dataset_size import DatasetSize
from moonshine_workflow.graph import nodes
from moonshine_workflow.students.layouts import (
    Described,
    Images,
    described,
    named,
    teacher_structure,
    uniform,
    with_block,
)
from moonshine_workflow.students.mixing import settings_of

TEACHER, SCRATCH = "teacher", "scratch"


@dataclass(frozen=True)
class TimedStep:
    """An optimiser step on a batch, or, with ``is_training`` False, a forward pass in eval mode.

    ``key`` says what its speed depends on, in words and with a checksum of the networks. ``teacher`` and ``method``
    are None where there is no distillation.
    """

    key: str
    is_training: bool
    structure: Structure
    teacher: StudyStructure | None = None
    method: Method | None = None


@dataclass(frozen=True)
class NodeSteps:
    """Steps of a node; those of training by number of epochs, none for a teacher that comes with its weights."""

    training: tuple[tuple[int, TimedStep], ...]
    evaluation: TimedStep


Steps = dict[tuple[str, str], NodeSteps]
"""By student and `SCRATCH` or the key of a method; twice `TEACHER`, which comes first, for the teacher."""


def steps_of(study: Study, size: DatasetSize) -> Steps:
    """Return the steps of every kind of node that trains.

    MoonshineError naming the key of the study for a network that cannot be built or is not known yet.
    """
    images = Images(size.shape, size.classes)
    teacher = teacher_structure(study, images)
    # laying out a model takes seconds: once, not for every block
    layout = cache(lambda network: described(study, network, images))
    structures = {
        TEACHER: teacher,
        **{name: _student(study, name, images, layout) for name in study.students},
    }
    epochs = study.training.epochs
    crop = tuple(study.augment.crop or size.shape[1:])
    found: Steps = {}
    for name, structure in structures.items():
        evaluation = TimedStep(_key(study, "evaluation", size.shape[1:], structure), False, structure)
        scratch = TimedStep(_key(study, "ce", crop, structure), True, structure)
        if name == TEACHER:
            found[TEACHER, TEACHER] = NodeSteps(
                () if study.teacher.weights else ((epochs, scratch),), evaluation
            )
            continue
        found[name, SCRATCH] = NodeSteps(((epochs, scratch),), evaluation)
        for key, method in study.methods.items():
            training = tuple(
                (
                    count,
                    TimedStep(
                        _key(study, part.loss, crop, structure, teacher), True, structure, teacher, part
                    )
                    if part
                    else scratch,
                )
                for count, part in method.phases(epochs)
            )
            found[name, key] = NodeSteps(training, evaluation)
    return found


def distinct(steps: Steps) -> list[TimedStep]:
    """Return the steps that differ in their keys."""
    both = [
        step for node in steps.values() for step in (node.evaluation, *(step for _, step in node.training))
    ]
    return list({step.key: step for step in both}.values())


def _key(study: Study, loss: str, size: tuple[int, ...], *structures: Structure) -> str:
    network, block, training = structures[0].network, structures[0].block, study.training
    built_from = [each.rebuilt_from() for each in structures]
    checksum = hashlib.sha256(json.dumps(built_from, sort_keys=True).encode()).hexdigest()
    return (
        f"{network if block == 'S' else f'{network} with {block}'}, {loss}, batches of {training.batch_size} of "
        f"{'x'.join(map(str, size))}, {training.optimizer.kind}, precision {training.precision}, {checksum[:12]}"
    )


def _student(study: Study, name: str, images: Images, layout: Callable[[str], Described]) -> Structure:
    """Return what the student's structure stage would write, for a mixed student what it has written."""
    key, student = f"students.{name}", study.students[name]
    if student.mixed:
        return _searched(study, name, images)
    if student.rival:
        scale, budgets = student.rival.scale, parse_budgets(student.rival.budget)
        network = named(key, lambda: rival(study.teacher.name, scale, budgets, images.classes, images.shape))
        return uniform(study, network, "S", images)
    network, block = study.network_of(name), study.block_of(name)
    if not is_model(network):
        return named(key, lambda: uniform(study, network, block, images))
    return named(key, lambda: with_block(network, str(parse(block)), layout(network)))


def _searched(study: Study, name: str, images: Images) -> Structure:
    mixed, path = study.students[name].mixed, nodes.structure(study.study, name).outputs[0]
    assert mixed
    found = StudyStructure.read(path) if path.exists() else None
    wanted = settings_of(mixed), images.classes, images.shape[0]
    if (
        not found
        or not found.search
        or (found.search.settings, found.num_classes, found.in_channels) != wanted
    ):
        raise MoonshineError(
            f"students.{name}.mixed: no search with these settings has run yet; allowed: run `snakemake "
            f"{path.as_posix()}` or `dvc repro structure@{study.study}-{name}` first, or name other students with "
            "--student"
        )
    return found
