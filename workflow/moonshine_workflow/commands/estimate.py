"""``moonshine estimate``: device hours of a study from a few timed training steps."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonshine.errors import MoonshineError
from moonshine_workflow.commands.text_table import text_table

if TYPE_CHECKING:
    from moonshine.config import Study
    from moonshine.datasets.kind import DatasetSize
    from moonshine_workflow.commands.estimating.device_hours import EstimateRow
    from moonshine_workflow.commands.estimating.throughput import Throughput

_DESCRIPTION = """
Print device hours of a study per student and method, and the time on one and on several devices. Every distinct network
is timed with each loss in a few training steps on noise; --save writes the times to a file that --throughput reads on
any machine. Nothing trains or is downloaded.
"""
_NOT_COUNTED = (
    "Not counted: preparing and decoding images, searches, warm starts, costs, export, report, and starting processes. "
    "One device per network is assumed."
)


def add_estimate(subparsers: Any) -> None:
    """Add ``moonshine estimate``."""
    parser = subparsers.add_parser(
        "estimate",
        help="device hours of a study, before anything trains",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", nargs="?", type=Path, default="params.yaml", help="default: params.yaml")
    parser.add_argument(
        "--devices",
        type=int,
        metavar="N",
        default=8,
        help="print the time on N devices beside that on one; default 8",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--save", type=Path, metavar="FILE", help="write the measured times to this file")
    source.add_argument(
        "--throughput", type=Path, metavar="FILE", help="read such a file instead of measuring"
    )
    parser.set_defaults(run=_estimate)


def _estimate(arguments: argparse.Namespace) -> int:
    if arguments.devices < 1:
        raise MoonshineError(f"--devices is {arguments.devices}; allowed: a whole number from 1")

    from moonshine.config import load_study
    from moonshine_workflow.commands.estimating.dataset_size import dataset_size
    from moonshine_workflow.commands.estimating.device_hours import device_seconds, wall_seconds
    from moonshine_workflow.commands.estimating.steps import steps_of
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
    print(_as_text(study, size, throughput, rows, walls))
    if unknown:
        print(f"Nor is {', '.join(unknown)}: no search for it has run, see docs/estimate.md.")
    return 0


def _as_text(
    study: Study,
    size: DatasetSize,
    throughput: Throughput,
    rows: list[EstimateRow],
    walls: dict[int, float],
) -> str:
    """Return what was measured, a table of the nodes, and the time on each number of devices."""
    unit, scale, digits = ("hours", 3600, 2) if walls[1] >= 3600 else ("seconds", 1, 1)

    def time(seconds: float) -> str:
        return f"{seconds / scale:,.{digits}f}"

    cells = [
        (
            row.student,
            row.trained_by,
            time(row.seconds_each),
            f"{row.networks:,}",
            time(row.networks * row.seconds_each),
        )
        for row in rows
    ]
    total = f"{sum(row.networks for row in rows):,}", time(walls[1])
    header = ("student", "trained by", "each", "networks", "in all")
    lines = [
        f"{study.study}: {size.train:,} training, {size.validation:,} validation and {size.test:,} test images of "
        f"{'x'.join(map(str, size.shape))}; {study.training.epochs:,} epochs",
        f"Measured on {throughput.device}, threads: {throughput.threads}, {throughput.dtype}, torch "
        f"{throughput.torch}",
        f"\nDevice {unit}:",
        text_table(header, [*cells, ("in all", "", "", *total)], text_columns=2) + "\n",
        *(f"{count} device{'s' * (count > 1)}: {time(wall)} {unit}" for count, wall in walls.items()),
        _NOT_COUNTED,
    ]
    return "\n".join(lines)
