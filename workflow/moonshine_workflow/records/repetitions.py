"""Repetitions of a study's comparison with fresh seeds, kept beside its record: one line of JSON each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from moonshine.config.study import Study
from moonshine.errors import MoonshineError
from moonshine.json_model import JsonModel
from moonshine_workflow.tables.statistics import Verdict

REPETITIONS = "repetitions.jsonl"
DESIGN = ("data", "augment", "teacher", "students", "methods", "seeds", "training")


class Repetition(JsonModel):
    """What one repetition found: ``method`` minus scratch in points, pooled over students and by student.

    ``half_width`` is over seeds, ``test_margin`` over test images, ``margin`` over both. ``design`` is of the study.
    ``cpu_seconds`` are those of the process that finished it; nodes that an earlier one trained are not in them.
    """

    design: str
    number: int
    method: str
    seeds: tuple[int, ...]
    teacher_seed: int
    teacher_error_pct: float
    by_student: dict[str, float | None]
    mean: float
    half_width: float
    test_margin: float
    margin: float
    verdict: Verdict
    cpu_seconds: int


def only(study: Study, method: str) -> Study:
    """Return ``study`` with one method, and without published errors."""
    report = study.report.model_copy(update={"published": None})
    return study.model_copy(update={"methods": {method: study.methods[method]}, "report": report})


def design_of(study: Study) -> str:
    """Return a checksum of all that the numbers of a study come from, besides the code.

    Only what is stated otherwise than by default counts: a key that the schema gains later changes no design.
    """
    settings = study.model_dump(mode="json", include=set(DESIGN), exclude_defaults=True)
    settings["students"] = {
        name: {key: value for key, value in student.items() if value is not None}
        for name, student in settings["students"].items()
    }
    settings["methods"] = {
        name: {
            term: found.model_dump(mode="json", exclude_defaults=True) for term, found in method.terms.items()
        }
        for name, method in study.methods.items()
    }
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_repetitions(path: Path, study: Study) -> list[Repetition]:
    """Return the repetitions in a file, in order, none where there is no file.

    MoonshineError for one of a study with other settings.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = sorted(map(Repetition.model_validate_json, lines), key=lambda each: each.number)
    for each in found:
        wanted = design_of(only(study, each.method))
        if each.design != wanted:
            raise MoonshineError(
                f"{path}: design is '{each.design}' in repetition {each.number}; allowed: '{wanted}', that of the study"
            )
    return found
