"""The ``moonshine`` command in a clone: the library's commands and those of the pipeline."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from moonshine import MoonshineError, cli
from moonshine.config import load_study
from workflow.checksum_command import add_checksum
from workflow.estimate_command import add_estimate
from workflow.plan_command import add_plan
from workflow.status_command import add_status

# Programs of their own, with their own options: module, whether it is told the study, what it does.
PROGRAMS = {
    "report": ("workflow.report", True, "render the report of the study, with --partial from what there is"),
    "compare": ("workflow.compare", False, "render a report that compares studies"),
    "repro": ("workflow.parallel", False, "dvc repro, several stages at once"),
    "handover": ("workflow.handover", False, "tell one engine what the other has done"),
    "restamp": ("workflow.restamp", False, "keep results after a harmless change of library code"),
    "track": ("workflow.track", False, "record in MLflow the finished runs that it does not have"),
}


def _add_programs(subparsers: Any) -> None:
    for name, (_, _, says) in PROGRAMS.items():
        subparsers.add_parser(name, help=says, add_help=False)


COMMANDS = (*cli.COMMANDS, add_plan, add_estimate, add_status, add_checksum, _add_programs)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; see ``moonshine.cli.main``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in PROGRAMS:
        return cli.main(arguments, COMMANDS)
    module, takes_study, _ = PROGRAMS[arguments[0]]
    try:
        study = ["--study", load_study().study] if takes_study else []
        return int(import_module(module).main([*study, *arguments[1:]]))
    except MoonshineError as error:
        print(f"moonshine: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
