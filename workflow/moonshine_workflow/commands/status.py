"""``moonshine status``: the state of a study, as a table or JSON."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from textwrap import indent
from typing import Any

from moonshine.config import load_study
from moonshine.text_table import duration, text_table
from moonshine_workflow.engines.status import STATES, NodeState, summary, survey, timings, workers
from moonshine_workflow.graph.check import check_study
from moonshine_workflow.report.teacher_batches import saved


def add_status(subparsers: Any) -> None:
    """Add ``moonshine status``."""
    parser = subparsers.add_parser(
        "status",
        help="progress of the study in params.yaml, and the time left",
        description="Print how many nodes of the study in params.yaml are done, running and left, and about how long "
        "the rest takes.",
    )
    parser.add_argument("--nodes", action="store_true", help="list every node, not only those in progress")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_status)


def _status(arguments: argparse.Namespace) -> int:
    study = load_study()
    check_study(study)
    states = survey(study)
    totals = summary(states, workers(study))
    if arguments.json:
        nodes = [{"node": one.node.name, "state": one.state, "detail": one.detail} for one in states]
        print(json.dumps({"study": study.study, **totals, "nodes": nodes}, indent=2))
        return 0
    print(f"{study.study}: " + ", ".join(f"{totals[name]} {name}" for name in STATES if totals[name]))
    print(_table(states))
    shown = [one for one in states if arguments.nodes or one.state == "running" or one.detail]
    print("\n".join(f"  {one.state:<9} {one.node.name}{one.detail and ', ' + one.detail}" for one in shown))
    if sentence := saved(timings(study)):
        print(sentence)
    print(_time_left(totals))
    return 0


def _table(states: Sequence[NodeState]) -> str:
    """Return a table of nodes by stage and state; states without nodes have no column."""
    stages = list(dict.fromkeys(one.node.stage for one in states))
    columns = [name for name in STATES if any(one.state == name for one in states)]
    counts = Counter((one.node.stage, one.state) for one in states)
    rows = [[stage, *(f"{counts[stage, name] or ''}" for name in columns)] for stage in stages]
    return indent(text_table(["stage", *columns], rows), "  ")


def _time_left(totals: dict[str, Any]) -> str:
    if totals["seconds_left"] == 0:
        return "nothing left to train"
    if totals["seconds_left"] is None:
        return "time left: unknown until a first node has trained here"
    return f"time left: about {duration(totals['seconds_left'])} of training, {totals['workers']} nodes at a time"
