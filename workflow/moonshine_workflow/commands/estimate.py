"""``moonshine estimate``: device time of a study from a few timed training steps."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from moonshine.errors import MoonshineError
from moonshine.text_table import duration, text_table

_NOT_COUNTED = (
    "Not counted: preparing and decoding images, searches, warm starts, costs, export, report, and starting processes. "
    "One device per network is assumed."
)


def add_estimate(subparsers: Any) -> None:
    """Add ``moonshine estimate``."""
    parser = subparsers.add_parser(
        "estimate",
        help="device hours of a study, before anything trains",
        description="Print device hours of a study per student and method, and the time on one and on several devices. "
        "Every distinct network is timed with each loss in a few training steps on noise. Nothing trains or is "
        "downloaded.",
    )
    parser.add_argument("study", nargs="?", type=Path, default="params.yaml", help="default: params.yaml")
    parser.add_argument("--devices", type=int, metavar="N", default=8, help="beside one; default 8")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--save", type=Path, metavar="FILE", help="write the measured times to this file")
    source.add_argument("--throughput", type=Path, metavar="FILE", help="read such a file; measure nothing")
    parser.set_defaults(run=_estimate)


def _estimate(arguments: argparse.Namespace) -> int:
    if arguments.devices < 1:
        raise MoonshineError(f"--devices is {arguments.devices}; allowed: a whole number from 1")

    from moonshine.config import load_study
    from moonshine_workflow.commands.estimating.device_hours import device_seconds, wall_seconds
    from moonshine_workflow.commands.estimating.steps import dataset_size, steps_of
    from moonshine_workflow.commands.estimating.throughput import measure_steps, read_throughput

    study = load_study(arguments.study)
    size = dataset_size(study)
    steps, unknown = steps_of(study, size)
    if arguments.throughput:
        throughput = read_throughput(arguments.throughput, steps)
    else:
        throughput = measure_steps(study, size, steps)
    if arguments.save:
        throughput.write(arguments.save)
    rows = device_seconds(study, size, steps, throughput.steps)
    walls = {count: wall_seconds(rows, count) for count in sorted({1, arguments.devices})}
    found = {study.recipe(student).epochs for student in (None, *study.students)}
    epochs = " to ".join(f"{each:,}" for each in sorted({min(found), max(found)}))
    cells = [
        (
            row.student,
            row.trained_by,
            duration(row.seconds_each),
            f"{row.networks:,}",
            duration(row.networks * row.seconds_each),
        )
        for row in rows
    ]
    cells.append(("in all", "", "", f"{sum(row.networks for row in rows):,}", duration(walls[1])))
    print(
        f"{study.study}: {size.train:,} training, {size.validation:,} validation and {size.test:,} test images of "
        f"{'x'.join(map(str, size.shape))}; {epochs} epochs\n"
        f"Measured on {throughput.measured_on}\n"
    )
    print(text_table(("student", "trained by", "each", "networks", "in all"), cells, text_columns=2) + "\n")
    for count, wall in walls.items():
        print(f"{count} device{'s' * (count > 1)}: {duration(wall)}")
    print(_NOT_COUNTED)
    if unknown:
        print(f"Nor is {', '.join(unknown)}: no search for it has run, see docs/estimate.md.")
    return 0
