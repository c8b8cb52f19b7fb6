"""Reading of a study's structures, as they were written before anything trained."""

from __future__ import annotations

from moonshine.config import Study
from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes


def structure_of(study: Study, student: str | None = None) -> StudyStructure:
    """Read the structure of a student, or of the teacher."""
    return StudyStructure.read(nodes.structure(study.study, student).outputs[0])
