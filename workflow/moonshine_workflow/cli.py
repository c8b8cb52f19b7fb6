"""The ``moonshine`` command: one parser for all commands, and programs that parse their own options.

Each command is one ``add_...`` function that takes argparse's subparsers (argparse keeps the name of their type to
itself), and torch loads only when a command needs it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from moonshine import MoonshineError, __version__
from moonshine.config import load_study
from moonshine_workflow.commands.checksum import add_checksum
from moonshine_workflow.commands.cost import add_cost
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


COMMANDS = (add_cost, add_plan, add_estimate, add_status, add_checksum)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 2, with only a message, for a mistake in the input."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except MoonshineError as error:
        print(f"moonshine: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # `moonshine status | head`: the reader has seen enough; keep the interpreter from flushing to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] in PROGRAMS:
        module, takes_study, _ = PROGRAMS[arguments[0]]
        study = ["--study", load_study().study] if takes_study else []
        return int(import_module(module).main([*study, *arguments[1:]]))
    parsed = _parser().parse_args(arguments)
    return int(parsed.run(parsed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("moonshine", description="Smaller students of a trained network.")
    parser.add_argument("--version", action="version", version=f"moonshine {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(subparsers)
    for name, (_, _, says) in PROGRAMS.items():
        subparsers.add_parser(name, help=says, add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
