"""Device hours of a study from the times of its training steps, and the time that several devices take."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moonshine.config import Study
from moonshine.datasets.kind import DatasetSize
from moonshine.distillation.outputs import Needs
from moonshine.distillation.teacher_store.store import LEAST_SHARE
from moonshine.distillation.term import Pair
from moonshine.structures.build import from_structure
from moonshine.structures.structure import StudyStructure
from moonshine.substitution.tap_discovery import tap_sizes
from moonshine_workflow.commands.estimating.steps import SCRATCH, TEACHER, Steps, TimedStep
from moonshine_workflow.training.teacher_store import kept_of

EVALUATION = 1 / 3
"""Time of a forward pass as a share of a training step's: the backward pass takes about two more."""


@dataclass(frozen=True)
class EstimateRow:
    """Nodes that differ only in their seed."""

    student: str
    trained_by: str
    networks: int
    seconds_each: float


def device_seconds(
    study: Study, size: DatasetSize, steps: Steps, times: Mapping[str, float]
) -> list[EstimateRow]:
    """Return a row for the teacher, then one for each student and method; ``times`` are seconds per image by step."""
    height, width = size.shape[1:]
    crop = study.augment.crop or (height, width)
    forward = EVALUATION * height * width / math.prod(crop)  # evaluation sees whole images
    ((_, teacher),) = steps[TEACHER, TEACHER]
    stored = EVALUATION * times[teacher.key] * _stored_share(study, size, steps)
    rows = []
    for (student, trained_by), phases in steps.items():
        ((_, alone),) = steps[student, TEACHER if student == TEACHER else SCRATCH]
        least, training = times[alone.key], 0.0
        epochs = sum(count for count, _ in phases)
        for count, step in phases:
            each = max(times[step.key] - stored, least) if _uses_store(step) else times[step.key]
            training += count * each
        seconds = (size.validation + size.test) * forward * least
        if student != TEACHER or study.teacher.is_trained:
            evaluated = epochs * size.validation + size.test
            seconds = size.train * training + evaluated * forward * least
        networks = 1 if student == TEACHER else len(study.seeds)
        rows.append(EstimateRow(student, trained_by, networks, seconds))
    return rows


def _uses_store(step: TimedStep) -> bool:
    """Return whether a step distils, and reads no features of the teacher, which are never stored."""
    return step.method is not None and not any(term.pretraining for term in step.method.terms.values())


def _stored_share(study: Study, size: DatasetSize, steps: Steps) -> float:
    """Return the share of the teacher's forward passes in distillation that the store spares.

    That is all but one per seed and size of batches.
    """
    distilled = [step for phases in steps.values() for _, step in phases if _uses_store(step)]
    if not distilled or distilled[0].teacher is None:
        return 0.0
    passes = len({step.recipe.batch_size for step in distilled})
    return share_kept(study, size, distilled[0].teacher) * (1 - passes / len(distilled))


def share_kept(study: Study, size: DatasetSize, teacher: StudyStructure) -> float:
    """Return the share of the teacher's logits and maps, for all seeds, that fits into the store."""
    network = from_structure(teacher, study.trusted)
    height, width = study.augment.crop or size.shape[1:]
    shape = size.shape[0], height, width
    epochs = max(study.recipe(student).epochs for student in study.students)
    kept = kept_of(study, Pair(network, network, teacher.taps, shape), epochs)
    if kept == Needs():
        return 0.0
    logits = size.classes * (height * width if study.data.is_dense else 1) if kept.logits else 0
    areas = tap_sizes(network, kept.paths, shape)
    values = logits + sum(math.prod(areas[each.path]) for each in kept.maps)
    schedule = 2 * values * size.train * epochs
    bound = study.runtime.teacher_store_bytes
    return min(1.0, bound / (schedule * len(study.seeds))) if bound >= LEAST_SHARE * schedule else 0.0


def wall_seconds(rows: Sequence[EstimateRow], devices: int) -> float:
    """Return when the last node ends with one node on each device at a time.

    The teacher and training from scratch start first, then distillation, which waits for the teacher; the longest of
    each first.
    """
    teacher, *students = rows
    students.sort(key=lambda row: (row.trained_by != SCRATCH, -row.seconds_each))
    ends = [0.0] * (devices - 1) + [teacher.seconds_each]
    for row in students:
        ready = 0.0 if row.trained_by == SCRATCH else teacher.seconds_each
        for _ in range(row.networks):
            heapq.heappush(ends, max(heapq.heappop(ends), ready) + row.seconds_each)
    return max(ends)
