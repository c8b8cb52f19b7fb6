"""Device hours of a study from the times of its steps, and the time that several devices take."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moonshine.config import Study
from moonshine_workflow.commands.estimating.dataset_size import DatasetSize
from moonshine_workflow.commands.estimating.steps import SCRATCH, TEACHER, Steps
from moonshine_workflow.commands.estimating.throughput import Throughput
from moonshine_workflow.commands.text_table import text_table

HEADER = ("student", "trained by", "images/s", "evaluated/s", "each", "networks", "in all")
NOT_COUNTED = (
    "Not counted: preparing and decoding images, searches, warm starts, costs, export, report, and starting processes. "
    "One device per network is assumed."
)


@dataclass(frozen=True)
class Row:
    """Nodes that differ only in their seed; ``images_per_second`` is None where nothing is trained."""

    student: str
    trained_by: str
    networks: int
    images_per_second: float | None
    evaluated_per_second: float
    seconds_each: float


@dataclass(frozen=True)
class Estimate:
    """Estimate of a study: the teacher's row comes first, ``wall_seconds`` are by number of devices.

    Each network trains for ``steps`` on ``images``, all epochs together. ``peak_bytes`` is its GPU memory at most,
    without the dataset.
    """

    study: str
    data: DatasetSize
    steps: int
    images: int
    measured: dict[str, Any]
    rows: list[Row]
    device_seconds: float
    wall_seconds: dict[int, float]
    peak_bytes: int | None


def estimate(study: Study, size: DatasetSize, steps: Steps, throughput: Throughput, devices: int) -> Estimate:
    """Add up the nodes of the study, and schedule them on one device and on ``devices``."""
    rows = []
    for (student, trained_by), node in steps.items():
        evaluated = 1 / throughput.steps[node.evaluation.key].seconds_per_image
        if node.training:
            epochs = study.training.epochs
            each = [count * throughput.steps[step.key].seconds_per_image for count, step in node.training]
            trained = epochs / sum(each)
            seconds = epochs * (size.train / trained + size.validation / evaluated) + size.test / evaluated
        else:  # a teacher that comes with its weights
            trained, seconds = None, (size.validation + size.test) / evaluated
        networks = 1 if student == TEACHER else len(study.seeds)
        rows.append(Row(student, trained_by, networks, trained, evaluated, seconds))
    return Estimate(
        study.study,
        size,
        study.training.epochs * math.ceil(size.train / study.training.batch_size),
        study.training.epochs * size.train,
        throughput.model_dump(mode="json", exclude={"steps"}),
        rows,
        wall_seconds(rows, 1),
        {count: wall_seconds(rows, count) for count in sorted({1, devices})},
        max((time.peak_bytes for time in throughput.steps.values() if time.peak_bytes), default=None),
    )


def wall_seconds(rows: Sequence[Row], devices: int) -> float:
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


def as_text(found: Estimate) -> str:
    """Return the load of each network, the device, a table of the nodes, and the time on one and several devices."""
    data, measured = found.data, found.measured
    unit, size, digits = ("hours", 3600, 2) if found.device_seconds >= 3600 else ("seconds", 1, 1)

    def time(seconds: float) -> str:
        return f"{seconds / size:,.{digits}f}"

    cells = [
        (
            row.student,
            row.trained_by,
            _rate(row.images_per_second),
            _rate(row.evaluated_per_second),
            time(row.seconds_each),
            f"{row.networks:,}",
            time(row.networks * row.seconds_each),
        )
        for row in found.rows
    ]
    networks = sum(row.networks for row in found.rows)
    cells.append(("in all", "", "", "", "", f"{networks:,}", time(found.device_seconds)))
    lines = [
        f"{found.study}: {data.train:,} training, {data.validation:,} validation and {data.test:,} test images of "
        f"{'x'.join(map(str, data.shape))}",
        f"Each network: {found.steps:,} steps on {found.images:,} images",
        f"Measured on {measured['device']}, threads: {measured['threads']}, {measured['dtype']}, torch "
        f"{measured['torch']}",
        f"\nDevice {unit}:",
        text_table(HEADER, cells, text_columns=2) + "\n",
        *(
            f"{count} device{'s' if count > 1 else ''}: {time(wall)} {unit}"
            for count, wall in found.wall_seconds.items()
        ),
    ]
    if found.peak_bytes:
        lines.append(f"GPU memory of a node, beside the dataset: up to {found.peak_bytes / 1e9:.1f} GB")
    return "\n".join([*lines, NOT_COUNTED])


def _rate(per_second: float | None) -> str:
    if per_second is None:
        return ""
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:#.3g}"
