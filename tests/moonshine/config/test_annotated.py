"""The annotated study in docs/ is a study, has every key of the schema, and says something of each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from moonshine.config import Study, load_study

ANNOTATED = Path(__file__).parents[3] / "docs" / "params-annotated.yaml"
KEY = re.compile(r"^ *(?:# +)?([a-zA-Z0-9_]+):")


def sections(annotation: Any) -> set[type[BaseModel]]:
    """Return the sections that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return set().union(*map(sections, get_args(annotation)))


def keys() -> set[str]:
    found: set[type[BaseModel]] = set()
    waiting: set[type[BaseModel]] = {Study}
    while waiting:
        section = waiting.pop()
        found.add(section)
        for field in section.model_fields.values():
            waiting |= sections(field.annotation) - found
    return {key for section in found for key in section.model_fields}


def test_the_annotated_study_is_one() -> None:
    assert load_study(ANNOTATED).study == "annotated"


def test_it_has_every_key_with_a_comment() -> None:
    lines = [line for line in ANNOTATED.read_text().splitlines() if KEY.match(line)]
    shown = {match[1] for line in lines if (match := KEY.match(line))}
    assert keys() - shown == set()
    assert [line for line in lines if "  # " not in line] == []
