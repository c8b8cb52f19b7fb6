"""An estimate as text, a table of aligned columns and the arithmetic in words, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from moonshine.config import Study
from workflow.estimating.arithmetic import TEACHER, Load, Row, Task, longest_chain, wall_seconds
from workflow.estimating.data import Facts
from workflow.estimating.throughput import Throughput, images_per_second

HOUR = 3600.0
HEADS = ("", "trained by", "images/s", "evaluated/s", "each", "networks", "in all", "student")


@dataclass(frozen=True)
class Estimate:
    """All that there is to tell of a study; ``pictures_per_second`` is what loading was said to deliver."""

    study: Study
    facts: Facts
    load: Load
    throughput: Throughput
    rows: Sequence[Row]
    tasks: Sequence[Task]
    devices: Sequence[int]
    pictures_per_second: float | None = None

    @property
    def device_seconds(self) -> float:
        """Those of one device for everything."""
        return sum(row.device_seconds for row in self.rows)

    @property
    def chain(self) -> list[Task]:
        """The nodes that wait for each other longest."""
        return longest_chain(self.tasks)


def as_json(estimate: Estimate) -> dict[str, Any]:
    """Everything in seconds and in images per second."""
    load = estimate.load
    return {
        "study": estimate.study.study,
        "data": asdict(estimate.facts),
        "each_network": {
            "epochs": load.epochs,
            "batch_size": load.batch_size,
            "steps": load.steps,
            "images": load.images,
        },
        "measured": estimate.throughput.model_dump(mode="json", exclude={"measurements"}),
        "pictures_per_second": estimate.pictures_per_second,
        "rows": [
            {
                "student": row.student,
                "trained_by": row.kind,
                "images_per_second": row.pace.training and 1 / row.pace.training,
                "evaluated_per_second": 1 / row.pace.evaluation,
                "seconds_each": row.seconds,
                "networks": row.networks,
                "device_seconds": row.device_seconds,
            }
            for row in estimate.rows
        ],
        "device_seconds": estimate.device_seconds,
        "longest_chain": {
            "nodes": [task.name for task in estimate.chain],
            "seconds": sum(task.seconds for task in estimate.chain),
        },
        "wall_seconds": {str(devices): wall_seconds(estimate.tasks, devices) for devices in estimate.devices},
        "peak_bytes": _peak(estimate),
        "not_counted": _not_counted(estimate),
    }


def as_text(estimate: Estimate) -> str:
    """What each network goes through, what was measured, the table, its arithmetic, the sums, what is left out."""
    facts, load = estimate.facts, estimate.load
    shape = "x".join(map(str, facts.shape))
    about = (
        f"{estimate.study.study}: {facts.train:,} training images, {facts.validation:,} for validation, {facts.test:,} "
        f"for testing, {shape} ({facts.source}).\nEach network: {load.epochs:,} epochs in batches of "
        f"{load.batch_size:,}: {load.steps:,} steps, {load.images:,} images.\n{_measured(estimate.throughput)}"
    )
    notes = ["Not counted: " + "; ".join(_not_counted(estimate)) + "."]
    if peak := _peak(estimate):
        notes.insert(
            0, f"GPU memory of a node, at most: {peak / 1e9:.1f} GB, and prepared data and CUDA's own."
        )
    return "\n\n".join([about, _table(estimate), _arithmetic(estimate), "\n".join(notes)])


def _measured(throughput: Throughput) -> str:
    if throughput.tflops:
        return (
            f"Assumed, not measured: {throughput.tflops:g} x 10^12 operations a second, all of them in convolutions "
            "and linear layers, two to a multiply-accumulate; a training image is three forward passes, and one of the "
            "teacher where it distils."
        )
    threads = f"{throughput.threads} thread{'s' if throughput.threads > 1 else ''}"
    return (
        f"Measured on {throughput.device}, {threads}, {throughput.dtype}, torch {throughput.torch}: median of "
        f"{throughput.batches} steps or more on {throughput.batch_size} images of noise."
    )


def _unit(estimate: Estimate) -> tuple[str, float, int]:
    """Name, seconds and decimals of the unit that all times are told in."""
    return ("hours", HOUR, 2) if estimate.device_seconds >= HOUR else ("seconds", 1.0, 1)


def _table(estimate: Estimate) -> str:
    unit, size, decimals = _unit(estimate)

    def time(seconds: float) -> str:
        return f"{seconds / size:,.{decimals}f}"

    lines = [list(HEADS)]
    for student, group in groupby(estimate.rows, key=lambda row: row.student):
        same = list(group)
        for row in same:
            lines.append(
                [
                    student if row is same[0] else "",
                    "" if row.kind == TEACHER else row.kind,
                    images_per_second(row.pace.training) if row.pace.training else "given",
                    images_per_second(row.pace.evaluation),
                    time(row.seconds),
                    f"{row.networks:,}",
                    time(row.device_seconds),
                    time(sum(each.device_seconds for each in same)) if row is same[-1] else "",
                ]
            )
    networks = sum(row.networks for row in estimate.rows)
    total = time(estimate.device_seconds)
    lines.append(["in all", "", "", "", "", f"{networks:,}", total, total])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return f"Device {unit}:\n" + "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _arithmetic(estimate: Estimate) -> str:
    """The formula of a row, with the numbers of the last one, and that of the time on several devices."""
    unit, size, decimals = _unit(estimate)
    facts, load, row = estimate.facts, estimate.load, estimate.rows[-1]

    def time(seconds: float) -> str:
        return f"{seconds / size:,.{decimals}f}"

    lines = [
        "each = epochs x (training images / (images/s) + validation images / (evaluated/s)) + test images / "
        "(evaluated/s)"
    ]
    if row.pace.training:
        trained, evaluated = images_per_second(row.pace.training), images_per_second(row.pace.evaluation)
        lines.append(
            f"{row.student} {row.kind}: {load.epochs:,} x ({facts.train:,} / {trained} + {facts.validation:,} / "
            f"{evaluated}) + {facts.test:,} / {evaluated} = {row.seconds:,.1f} seconds"
            + (f" = {time(row.seconds)} hours" if size == HOUR else "")
        )
    chain = sum(task.seconds for task in estimate.chain)
    names = ", then ".join(task.name for task in estimate.chain)
    for devices in estimate.devices:
        wall = wall_seconds(estimate.tasks, devices)
        if devices == 1:
            lines.append(f"1 device: {time(wall)} {unit}")
            continue
        lines.append(
            f"{devices} devices, a node on each, longest first: {time(wall)} {unit}; it cannot be less than "
            f"{time(estimate.device_seconds / devices)} (in all / {devices}) or {time(chain)} ({names})"
        )
    return "\n".join(lines)


def _peak(estimate: Estimate) -> int | None:
    """The most GPU memory that any of the steps took."""
    return max((found.peak_bytes or 0 for found in estimate.throughput.measurements), default=0) or None


def _not_counted(estimate: Estimate) -> list[str]:
    study = estimate.study
    found = ["preparing data, searches, costs, export and report", "the start of each process, some seconds"]
    if any(student.warm_start for student in study.students.values()):
        found.append("warm starts")
    if study.training.devices > 1:
        found.append(
            f"training.devices: {study.training.devices} (one device per network is assumed, with the whole batch)"
        )
    if study.is_encoded and estimate.pictures_per_second is None:
        paces = [row.pace.training for row in estimate.rows if row.pace.training]
        fastest = (
            f", which must deliver {images_per_second(min(paces))} pictures/s to keep up with the fastest network"
            if paces
            else ""
        )
        found.append(f"decoding pictures{fastest} (--pictures-per-second says what it delivers)")
    if estimate.throughput.batch_size != study.training.batch_size:
        found.append(
            f"that batches are of {study.training.batch_size} images, not {estimate.throughput.batch_size} as measured"
        )
    return found
