"""``moonshine check``: whether a study would run, found out on a few of its images."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from moonshine.errors import MoonshineError

_DESCRIPTION = """
Find out in seconds whether a study would run, before hours are spent: verify the checksum of its data and read a few
of the images, build the teacher and load its weights, lay out every student, train each network on one batch with every
method, compress what is to be compressed, export what the budget limits, and compare sizes with the budget. A search is
cut short: it draws one candidate. Nothing is written.
"""
_Made = TypeVar("_Made")


def add_check(subparsers: Any) -> None:
    """Add ``moonshine check``."""
    parser = subparsers.add_parser(
        "check", help="whether a study would run, before anything trains", description=_DESCRIPTION
    )
    parser.add_argument("study", nargs="?", type=Path, default="params.yaml", help="default: params.yaml")
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    from moonshine.config import load_study
    from moonshine_workflow.graph import nodes
    from moonshine_workflow.graph.check import check_study

    study = load_study(arguments.study)
    check_study(study)
    print(f"{study.study}: {len(nodes.trained(study))} networks to train")
    from moonshine_workflow.commands.checking.trial import Trial  # loads torch

    report = Checklist()
    with TemporaryDirectory(prefix="moonshine-check-") as folder:
        trial = report.line("data", lambda: Trial.prepare(study, Path(folder)))
        if trial and report.line("teacher", trial.teacher):
            for student in study.students:
                report.line(student, lambda: trial.student(student))  # noqa: B023
            if study.ship:
                report.line("budget", trial.budget)
    print("it would run" if not report.failed else f"it would not run: {', '.join(report.failed)}")
    return 2 if report.failed else 0


class Checklist:
    """Lines of a check on standard output, with the seconds that each took; ``failed`` names those that say no."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def line(self, name: str, make: Callable[[], _Made]) -> _Made | None:
        """Print a line about what ``make`` returns, or its error, for which None is returned."""
        start = time.monotonic()
        try:
            made = make()
        except MoonshineError as error:
            print(f"no  {name}: {error}", flush=True)
            self.failed.append(name)
            return None
        print(f"ok  {name}: {made} ({time.monotonic() - start:.1f} s)", flush=True)
        return made
