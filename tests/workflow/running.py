"""Stages run inside the test's own process, in a folder that holds a params.yaml of the tiny study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.stages import collect, distil, export, fetch, measure, scratch, structure, teacher
from moonshine_workflow.training.launch import launch

STAGES: dict[str, tuple[Any, Callable[..., nodes.Node], tuple[str, ...]]] = {
    "fetch": (fetch, nodes.fetch, ()),
    "structure": (structure, nodes.structure, ("student",)),
    "measure": (measure, nodes.measure, ("network",)),
    "teacher": (teacher, nodes.teacher, ()),
    "scratch": (scratch, nodes.scratch, ("student", "seed")),
    "distil": (distil, nodes.distil, ("student", "method", "seed")),
    "collect": (collect, nodes.collect, ()),
    "export": (export, nodes.export, ()),
}


def run(name: str, *arguments: str) -> int:
    """The exit status of a stage."""
    module, make_node, wildcards = STAGES[name]
    start = launch if name in ("teacher", "scratch", "distil") else None
    return stage.main(module.run, make_node, wildcards, options(wildcards, arguments), launch=start)


def options(wildcards: Sequence[str], values: Sequence[str]) -> list[str]:
    """The arguments of a stage of the tiny study."""
    given = zip(("study", *wildcards), ("tiny", *values), strict=True)
    return [f"--{name}={value}" for name, value in given]
