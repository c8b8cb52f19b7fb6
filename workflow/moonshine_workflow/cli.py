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
from moonshine_workflow.commands.check import add_check
from moonshine_workflow.commands.checksum import add_checksum
from moonshine_workflow.commands.cost import add_cost
from moonshine_workflow.commands.estimate import add_estimate
from moonshine_workflow.commands.init import add_init
from moonshine_workflow.commands.plan import add_plan
from moonshine_workflow.commands.records import add_records
from moonshine_workflow.commands.setup_tflite import add_setup_tflite
from moonshine_workflow.commands.status import add_status

# Programs of their own, with their own options: module, what it does.
PROGRAMS = {
    "report": (
        "moonshine_workflow.commands.report",
        "render the study's report; --partial: from what is finished, --records: from a record",
    ),
    "compare": (
        "moonshine_workflow.commands.compare",
        "render one report that compares several studies",
    ),
    "repro": ("moonshine_workflow.engines.parallel", "run dvc repro with several stages at a time"),
    "handover": (
        "moonshine_workflow.engines.handover",
        "record one engine's finished work with the other",
    ),
    "restamp": (
        "moonshine_workflow.engines.restamp",
        "keep finished results after a code change that cannot change a number",
    ),
    "track": (
        "moonshine_workflow.tracking.back_fill",
        "log finished runs that MLflow lacks",
    ),
}


COMMANDS = (
    add_init,
    add_cost,
    add_plan,
    add_check,
    add_estimate,
    add_status,
    add_checksum,
    add_records,
    add_setup_tflite,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 2, with only a message, for a mistake in the input."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except MoonshineError as error:
        print(f"moonshine: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("moonshine"):
            raise
        print(
            f"moonshine: {error.name} is not installed; what this command needs comes with "
            "pip install 'moonshine-distil[pipeline]'",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:
        # `moonshine status | head`: the reader has seen enough; keep the interpreter from flushing to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] in PROGRAMS:
        module, _ = PROGRAMS[arguments[0]]
        return int(import_module(module).main(arguments[1:]))
    parsed = _parser().parse_args(arguments)
    return int(parsed.run(parsed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "moonshine",
        description="Structural model distillation: students with cheap blocks, planned, trained and compared.",
    )
    parser.add_argument("--version", action="version", version=f"moonshine {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(subparsers)
    for name, (_, says) in PROGRAMS.items():
        subparsers.add_parser(name, help=says, add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
