"""The ``moonshine`` command: dispatches to the commands of the library and of the pipeline."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from moonshine import MoonshineError
from moonshine.config import load_study
from moonshine_workflow.commands import cost
from moonshine_workflow.commands.checksum import add_checksum
from moonshine_workflow.commands.estimate import add_estimate
from moonshine_workflow.commands.plan import add_plan
from moonshine_workflow.commands.status import add_status

# Programs of their own, with their own options: module, whether it is told the study, what it does.
PROGRAMS = {
    "report": (
        "moonshine_workflow.stages.report",
        True,
        "render the report of the study, with --partial from what there is",
    ),
    "compare": ("moonshine_workflow.commands.compare", False, "render a report that compares studies"),
    "repro": ("moonshine_workflow.engines.parallel", False, "dvc repro, several stages at once"),
    "handover": ("moonshine_workflow.engines.handover", False, "tell one engine what the other has done"),
    "restamp": (
        "moonshine_workflow.engines.restamp",
        False,
        "keep results after a harmless change of library code",
    ),
    "track": (
        "moonshine_workflow.tracking.back_fill",
        False,
        "record in MLflow the finished runs that it does not have",
    ),
}


def _add_programs(subparsers: Any) -> None:
    for name, (_, _, says) in PROGRAMS.items():
        subparsers.add_parser(name, help=says, add_help=False)


COMMANDS = (*cost.COMMANDS, add_plan, add_estimate, add_status, add_checksum, _add_programs)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; see ``moonshine_workflow.commands.cost.main``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in PROGRAMS:
        return cost.main(arguments, COMMANDS)
    module, takes_study, _ = PROGRAMS[arguments[0]]
    try:
        study = ["--study", load_study().study] if takes_study else []
        return int(import_module(module).main([*study, *arguments[1:]]))
    except MoonshineError as error:
        print(f"moonshine: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
