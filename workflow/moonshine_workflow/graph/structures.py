"""Reading of structures: a study's own, as they were written before anything trained, and those given to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moonshine.blocks.registry import parse_block
from moonshine.config import Study
from moonshine.errors import MoonshineError
from moonshine.structures.structure import Structure, StudyStructure
from moonshine_workflow.graph import nodes


def structure_of(study: Study, student: str | None = None) -> StudyStructure:
    """Read the structure of a student, or of the teacher."""
    return StudyStructure.read(nodes.structure(study.study, student).outputs[0])


def blocks_of(study: Study, name: str) -> str | Mapping[str, str]:
    """Return the block of a student that needs no search, its blocks by pattern, or those by place of its file.

    MoonshineError for a file that is missing, damaged or this study's own, and for an unknown block in it.
    """
    student = study.students[name]
    if student.structure is None:
        return student.blocks or ("S" if student.block is None else student.block)
    path = Path(student.structure).expanduser()
    if path.resolve().is_relative_to((nodes.RESULTS / study.study).resolve()):
        raise MoonshineError(
            f"{path}: this study writes it; allowed: a file of another study, or a copy of this one"
        )
    blocks = Structure.read(path).blocks
    for place, block in blocks.items():
        try:
            parse_block(block)
        except MoonshineError as error:
            raise MoonshineError(f"{path}: blocks.{place}: {error}") from None
    return blocks


def layout_key(study: Study, name: str) -> str:
    """Return where a student's blocks are said, for errors: ``students.mine.blocks``."""
    student = study.students[name]
    if student.structure is not None:
        return f"students.{name}.structure: {student.structure}"
    return f"students.{name}.blocks" if student.blocks else f"students.{name}"
