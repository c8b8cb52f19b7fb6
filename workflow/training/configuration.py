"""The configuration of one training node, resolved from the study: what its results are the results of."""

from __future__ import annotations

from typing import Any

from moonshine.config import Study
from workflow.nodes import Node


def configuration(study: Study, node: Node) -> dict[str, Any]:
    """Everything of the study that a training node's numbers depend on, as JSON-able values.

    ``runtime`` is how, not what, and no part of it; nor are the inputs' checksums, which the stage adds.
    """
    student = node.args[0] if node.args else None
    method = node.args[1] if node.stage == "distil" else None
    return {
        "node": node.name,
        "teacher": study.teacher.model_dump() if node.stage != "scratch" else None,
        "student": _student(study, student) if student else None,
        "method": study.methods[method].model_dump() if method else None,
        "seed": int(node.args[-1]) if node.args else study.teacher.seed,
        "augment": study.augment.model_dump(),
        "training": study.training.model_dump(),
    }


def _student(study: Study, name: str) -> dict[str, Any]:
    student = study.students[name]
    settings = student.model_dump(mode="json", exclude_none=True)
    if student.mixed or student.rival:
        return {"network": study.teacher.name, **settings}
    return {**settings, "network": study.network_of(name), "block": study.block_of(name)}
