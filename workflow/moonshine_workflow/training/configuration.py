"""Resolved configuration of a node that trains, stored with its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from moonshine.config import Study
from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.teacher import Teacher
from moonshine.config.training import Training
from moonshine_workflow.graph.nodes import Node
from moonshine_workflow.graph.structures import blocks_of

SECTIONS: dict[str, type[BaseModel]] = {
    "teacher": Teacher,
    "method": Method,
    "augment": Augment,
    "training": Training,
}


def configuration(study: Study, node: Node) -> dict[str, Any]:
    """Return everything in the study that a node's numbers depend on, as JSON-serialisable values.

    ``runtime`` is left out: it decides how the node runs, not what it computes. The stage adds its inputs' checksums.
    """
    return {
        "node": node.name,
        "teacher": study.teacher.model_dump() if node.stage != "scratch" else None,
        "student": _student(study, node.student) if node.student else None,
        "method": study.methods[node.method].model_dump() if node.method else None,
        "seed": study.teacher.seed if node.seed is None else node.seed,
        "augment": study.augment.model_dump(),
        "training": study.recipe(node.student).model_dump(),
    }


def changed(study: Study, node: Node, made: Mapping[str, Any]) -> list[str]:
    """Return the keys in which ``made``, the configuration that a node was trained with, differs from the study's."""
    wanted = configuration(study, node)
    return [key for key, value in wanted.items() if resolved(key, made.get(key)) != value]


def resolved(key: str, found: Any) -> Any:
    """Return a recorded value, with defaults for keys that the schema did not have at the time."""
    try:
        return SECTIONS[key].model_validate(found).model_dump()
    except (KeyError, ValidationError):
        return found


def _student(study: Study, name: str) -> dict[str, Any]:
    student, network = study.students[name], study.network_of(name)
    settings = student.model_dump(mode="json", exclude_none=True, exclude={"training"})
    if student.structure:
        settings["structure"] = blocks_of(study, name)
    if student.blocks or student.structure or student.mixed or student.rival:
        return {"network": network, **settings}
    return {**settings, "network": network, "block": student.block or "S"}
