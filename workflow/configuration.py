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
        "student": {"network": study.network_of(student), "block": study.block_of(student)}
        if student
        else None,
        "method": study.methods[method].model_dump() if method else None,
        "seed": int(node.args[-1]) if node.args else study.teacher.seed,
        "augment": study.augment.model_dump(),
        "training": study.training.model_dump(),
    }
