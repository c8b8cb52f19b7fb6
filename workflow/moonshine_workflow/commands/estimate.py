"""``moonshine estimate``: device hours of a study, from a few timed training steps."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from moonshine.errors import MoonshineError

_DESCRIPTION = """
Print device hours of a study per student and method, and the time on one and on several devices. Every distinct network
is timed with each loss in a few training steps on noise; times are cached unless the CPU was busy with other processes.
--save writes them to a file that --throughput reads on any machine. Nothing trains or is downloaded.
"""


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
    from moonshine_workflow.commands.estimating.estimate import as_text, estimate_study
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
    print(as_text(study, size, throughput, estimate_study(study, size, steps, throughput), arguments.devices))
    if unknown:
        print(f"Nor is {', '.join(unknown)}: no search for it has run, see docs/estimate.md.")
    return 0
