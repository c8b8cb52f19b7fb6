"""``moonshine init``: a study of one's own, or one of the package's, in a folder where both engines run it."""

from __future__ import annotations

import argparse
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from moonshine.errors import MoonshineError
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.library import INSTALLED

_DESCRIPTION = """
Write params.yaml and what Snakemake and DVC need into the working folder. The network is built, its weights are
loaded and the images are looked at; nothing trains, nothing is asked and nothing overwritten. What was assumed is said.
"""
EXAMPLES = (
    f"{nodes.PARAMS}: init FLOWERS --model my_nets:build --data flowers/, --study digits, or --graph alone"
)


def add_init(subparsers: Any) -> None:
    """Add ``moonshine init``."""
    parser = subparsers.add_parser(
        "init", help="a new study in this folder, of your network and data", description=_DESCRIPTION
    )
    parser.add_argument("name", nargs="?", help="of the study; default: the folder's")
    parser.add_argument("--model", help="my_nets:build, torchvision/resnet18, timm/..., wrn-16-1")
    parser.add_argument("--kwargs", default="{}", metavar="JSON", help="arguments of your function")
    parser.add_argument("--weights", metavar="FILE", help="its weights; torchvision: those it publishes")
    parser.add_argument(
        "--weights-prefix", metavar="TEXT", help="of its tensors, where the file has several networks"
    )
    parser.add_argument("--data", type=Path, metavar="PATH", help="a folder with train/<class>/, or an .npz")
    parser.add_argument("--size", type=int, metavar="N", help="side of what the network sees of an image")
    parser.add_argument("--budget", action="append", default=[], help="such as '1MB onnx-int8'; repeatable")
    parser.add_argument("--study", metavar="NAME", help="one that comes with the package, such as digits")
    parser.add_argument(
        "--graph", action="store_true", help="only what the engines need, beside a params.yaml"
    )
    parser.set_defaults(run=_init)


def _init(arguments: argparse.Namespace) -> int:
    from moonshine_workflow.commands.initialising.project_files import (
        GITIGNORE,
        project_files,
        require_room,
        write_project,
    )
    from moonshine_workflow.graph.library import IN_CLONE, check_module_names

    here = Path()
    if IN_CLONE.is_dir():
        raise MoonshineError(
            f"{here.resolve()}: is a clone, whose graph is there; allowed: another folder, or here "
            f"`cp studies/digits.yaml {nodes.PARAMS}`"
        )
    check_module_names()
    files = project_files(here)
    said: list[str] = []
    if not arguments.graph:
        require_room(here)
        files = {nodes.PARAMS: _study(arguments, said), **files}
    written = write_project(here, files)
    left = [path for path in files if path not in written]
    print(f"wrote {', '.join(map(str, written)) or 'nothing'}")
    if left:
        print(f"left as it is: {', '.join(map(str, left))}")
        if GITIGNORE in left:
            print(f"{GITIGNORE} may lack: {' '.join(files[GITIGNORE].split())}")
    for line in said:
        print(f"assumed: {line}" if not line.startswith("NOTHING") else line)
    print(_next(arguments.budget))
    return 0


def _study(arguments: argparse.Namespace, said: list[str]) -> str:
    if arguments.study:
        if arguments.model or arguments.data or arguments.name:
            raise MoonshineError("--study: is a whole study; allowed beside it: nothing")
        known = sorted(path.stem for path in (INSTALLED / "studies").glob("*.yaml"))
        if arguments.study not in known:
            raise MoonshineError(f"--study: found {arguments.study}; allowed: {', '.join(known)}")
        return (INSTALLED / "studies" / f"{arguments.study}.yaml").read_text(encoding="utf-8")
    if not (arguments.model and arguments.data):
        missing = " and ".join(f"--{name}" for name in ("model", "data") if not getattr(arguments, name))
        raise MoonshineError(f"{missing}: missing; allowed: {EXAMPLES}")
    return _own_study(arguments, said)


def _own_study(arguments: argparse.Namespace, said: list[str]) -> str:
    import yaml

    from moonshine.config.study import parse_study
    from moonshine.costs.budgets import parse_budgets
    from moonshine.networks.models import is_registered
    from moonshine_workflow.commands.initialising.data import look_at
    from moonshine_workflow.commands.initialising.students import choose_students
    from moonshine_workflow.commands.initialising.study_text import study_text
    from moonshine_workflow.commands.initialising.teacher import look_at_teacher
    from moonshine_workflow.graph.check import check_study

    if arguments.budget:
        parse_budgets(arguments.budget)
    seen = look_at(arguments.data, arguments.size, 3 if is_registered(arguments.model) else None)
    found = look_at_teacher(
        arguments.model, _kwargs(arguments.kwargs), arguments.weights, arguments.weights_prefix, seen
    )
    students, about = choose_students(found.section, arguments.budget, seen)
    data = {**seen.section, **({"normalisation": found.normalisation} if found.normalisation else {})}
    name = arguments.name or Path.cwd().name
    text = study_text(name, data, found.section, students, arguments.budget, seen.train)
    check_study(parse_study(yaml.safe_load(text), "init"))
    said += [*seen.said, *found.said, *about]
    return text


def _kwargs(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise MoonshineError(f"--kwargs: found {text}; allowed: a JSON object, such as '{{\"width\": 64}}'")
    return found


def _next(budgets: list[str]) -> str:
    plan = " ".join(f"--budget '{budget}'" for budget in budgets) or "--budget 1MB"
    lines = [
        f"next: edit {nodes.PARAMS}, then",
        "  moonshine check       # whether it would run, before anything trains",
        "  snakemake             # or: moonshine repro; trains, compares, exports, reports",
        "  moonshine status      # what is done and what is left",
        f"  moonshine plan {plan}",
    ]
    if find_spec("snakemake") is None or find_spec("dvc") is None:
        lines.append("the engines are not installed yet: pip install 'moonshine-distil[pipeline]'")
    return os.linesep.join(lines)
