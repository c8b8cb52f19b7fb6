"""Device hours of a study from the times of its steps, and the time that several devices take."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from moonshine.config import Study
from moonshine_workflow.commands.estimating.dataset_size import DatasetSize
from moonshine_workflow.commands.estimating.kept_outputs import share_kept
from moonshine_workflow.commands.estimating.steps import SCRATCH, TEACHER, Steps, TimedStep
from moonshine_workflow.commands.estimating.throughput import Throughput
from moonshine_workflow.commands.text_table import text_table

EVALUATION = 1 / 3
"""Time of a forward pass as a share of a training step's: the backward pass is about two more."""
_HEADER = ("student", "trained by", "images/s", "each", "networks", "in all")
NOT_COUNTED = (
    "Not counted: preparing and decoding images, searches, warm starts, costs, export, report, and starting processes. "
    "One device per network is assumed."
)


@dataclass(frozen=True)
class EstimateRow:
    """Nodes that differ only in their seed."""

    student: str
    trained_by: str
    networks: int
    images_per_second: float
    seconds_each: float


def estimate_study(
    study: Study, size: DatasetSize, steps: Steps, throughput: Throughput
) -> list[EstimateRow]:
    """Return a row for the teacher, then one for each student and method."""
    height, width = size.shape[1:]
    crop = study.augment.crop or (height, width)
    larger = height * width / math.prod(crop)  # evaluation sees whole images
    rows = []
    epochs = study.training.epochs
    ((_, teacher),) = steps[TEACHER, TEACHER]
    saved = EVALUATION * throughput.steps[teacher.key] * _spared(study, size, steps)
    for (student, trained_by), phases in steps.items():
        ((_, alone),) = steps[student, TEACHER if student == TEACHER else SCRATCH]
        evaluating = EVALUATION * larger * throughput.steps[alone.key]
        training = 0.0
        for count, step in phases:
            measured, least = throughput.steps[step.key], throughput.steps[alone.key]
            spares = saved > 0 and _reads_what_is_kept(step)
            training += count / epochs * (max(measured - saved, least) if spares else measured)
        seconds = (size.validation + size.test) * evaluating
        if student != TEACHER or not study.teacher.weights:
            epoch = size.train * training + size.validation * evaluating
            seconds = epochs * epoch + size.test * evaluating
        networks = 1 if student == TEACHER else len(study.seeds)
        rows.append(EstimateRow(student, trained_by, networks, 1 / training, seconds))
    return rows


def _reads_what_is_kept(step: TimedStep) -> bool:
    """Whether the teacher of a step gives logits and maps only."""
    return step.method is not None and not any(term.pretraining for term in step.method.terms.values())


def _spared(study: Study, size: DatasetSize, steps: Steps) -> float:
    """The share of the teacher's forward passes in distillation that do not run: one node of each seed runs it."""
    distilled = [step for phases in steps.values() for _, step in phases if _reads_what_is_kept(step)]
    if not distilled or distilled[0].teacher is None:
        return 0.0
    return share_kept(study, size, distilled[0].teacher) * (1 - 1 / len(distilled))


def wall_seconds(rows: Sequence[EstimateRow], devices: int) -> float:
    """Return when the last node ends: a node on each device at a time, of those that can start the longest first.

    The teacher starts first, since distillation waits for it; training from scratch does not.
    """
    teacher, *students = rows
    scratch, distilled = (
        sorted(
            row.seconds_each
            for row in students
            for _ in range(row.networks)
            if (row.trained_by == SCRATCH) == is_scratch
        )
        for is_scratch in (True, False)
    )
    ends = [0.0] * (devices - 1) + [teacher.seconds_each]
    while scratch or distilled:
        now = heapq.heappop(ends) if scratch else max(heapq.heappop(ends), teacher.seconds_each)
        can_start = [scratch, distilled] if now >= teacher.seconds_each else [scratch]
        heapq.heappush(ends, now + max(can_start, key=lambda seconds: seconds[-1:]).pop())
    return max(ends)


def as_text(
    study: Study, size: DatasetSize, throughput: Throughput, rows: Sequence[EstimateRow], devices: int
) -> str:
    """Return the load of each network, the device, a table of the nodes, and the time on one and several devices."""
    total = wall_seconds(rows, 1)
    unit, scale, digits = ("hours", 3600, 2) if total >= 3600 else ("seconds", 1, 1)

    def time(seconds: float) -> str:
        return f"{seconds / scale:,.{digits}f}"

    cells = [
        (
            row.student,
            row.trained_by,
            f"{row.images_per_second:,.0f}"
            if row.images_per_second >= 100
            else f"{row.images_per_second:#.3g}",
            time(row.seconds_each),
            f"{row.networks:,}",
            time(row.networks * row.seconds_each),
        )
        for row in rows
    ]
    cells.append(("in all", "", "", "", f"{sum(row.networks for row in rows):,}", time(total)))
    walls = {count: wall_seconds(rows, count) for count in sorted({1, devices})}
    return "\n".join(
        [
            f"{study.study}: {size.train:,} training, {size.validation:,} validation and {size.test:,} test images of "
            f"{'x'.join(map(str, size.shape))}; {study.training.epochs:,} epochs",
            f"Measured on {throughput.device}, threads: {throughput.threads}, {throughput.dtype}, torch "
            f"{throughput.torch}",
            f"\nDevice {unit}:",
            text_table(_HEADER, cells, text_columns=2) + "\n",
            *(f"{count} device{'s' * (count > 1)}: {time(wall)} {unit}" for count, wall in walls.items()),
            NOT_COUNTED,
        ]
    )
