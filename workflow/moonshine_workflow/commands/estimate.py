"""``moonshine estimate``: device hours of a study, from a few timed training steps."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from moonshine.config import Study

DESCRIPTION = """
Print device hours of a study per student and method, and the time on one and on several devices. Every distinct network
is timed with each loss in a few training steps on noise; times are cached unless the CPU was busy with other processes.
--save writes them to a file that --throughput reads on any machine.
"""
STUDIES = Path("studies")


def add_estimate(subparsers: Any) -> None:
    """Adds ``moonshine estimate``."""
    parser = subparsers.add_parser(
        "estimate",
        help="device hours of a study, before anything trains",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", nargs="?", default="params.yaml", help="a file, or a name in studies/")
    parser.add_argument(
        "--student", action="append", metavar="NAME", help="only this one; may be given again"
    )
    parser.add_argument("--devices", type=int, metavar="N", default=8, help="beside 1; default 8")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--save", type=Path, metavar="FILE", help="write what was measured here")
    source.add_argument("--throughput", type=Path, metavar="FILE", help="read it instead of measuring")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_estimate)


def _estimate(arguments: argparse.Namespace) -> int:
    if arguments.devices < 1:
        raise MoonshineError(f"--devices is {arguments.devices}; allowed: a whole number from 1")
    study = _study(arguments.study, arguments.student)

    from moonshine.files import write_json
    from moonshine_workflow.commands.estimating.dataset_size import dataset_size
    from moonshine_workflow.commands.estimating.estimate import as_text, estimate
    from moonshine_workflow.commands.estimating.steps import distinct, steps_of
    from moonshine_workflow.commands.estimating.throughput import measure, read_throughput

    size = dataset_size(study)
    steps = steps_of(study, size)
    if arguments.throughput:
        throughput = read_throughput(arguments.throughput, distinct(steps))
    else:
        throughput = measure(study, size, distinct(steps))
    if arguments.save:
        write_json(arguments.save, throughput.model_dump(mode="json"))
    found = estimate(study, size, steps, throughput, arguments.devices)
    print(json.dumps(asdict(found), indent=2) if arguments.json else as_text(found))
    return 0


def _study(name: str, students: list[str] | None) -> Study:
    """Read a file, or a study of studies/ by its name; with only these students where any are named."""
    from moonshine.config import load_study

    is_name = Path(name).stem == name
    if is_name and not (STUDIES / f"{name}.yaml").is_file():
        known = ", ".join(sorted(file.stem for file in STUDIES.glob("*.yaml")))
        raise MoonshineError(f"study {name!r}: no such file; allowed: a file, or one of studies/: {known}")
    study = load_study(STUDIES / f"{name}.yaml" if is_name else Path(name))
    for student in students or ():
        if student not in study.students:
            raise MoonshineError(
                f"--student is {student}; allowed: the students of {study.study}: {', '.join(study.students)}"
            )
    chosen = {key: each for key, each in study.students.items() if not students or key in students}
    return study.model_copy(update={"students": chosen})
