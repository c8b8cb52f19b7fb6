"""Stages run inside the test's own process, in a folder that holds a params.yaml of the tiny study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.stages import (
    collect,
    distil,
    export,
    fetch,
    measure,
    scratch,
    structure,
    structure_teacher,
    teacher,
)

STAGES: dict[str, tuple[Any, Callable[..., nodes.Node]]] = {
    "fetch": (fetch, nodes.fetch),
    "structure-teacher": (structure_teacher, lambda study: nodes.structure(study)),
    "structure": (structure, nodes.structure),
    "measure": (measure, nodes.measure),
    "teacher": (teacher, nodes.teacher),
    "scratch": (scratch, nodes.scratch),
    "distil": (distil, nodes.distil),
    "collect": (collect, nodes.collect),
    "export": (export, nodes.export),
}


def run(name: str, *values: str) -> int:
    """The exit status of a stage, before which the teacher is laid out where that comes before it."""
    if name in ("structure", "measure", "teacher") and (failed := run("structure-teacher")):
        return failed
    module, make_node = STAGES[name]
    return stage.main(module.run, make_node, options(make_node("tiny", *values)))


def options(node: nodes.Node) -> list[str]:
    """The arguments of its stage, in the form ``--name=value``, in which a value may begin with a dash."""
    return [f"--{name}={value}" for name, value in node.wildcards.items()]
