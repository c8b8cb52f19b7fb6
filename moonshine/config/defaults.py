"""Plain defaults of params.yaml: sections that may be left out, and keys that may be left out of a section.

Recipes of single networks take what they leave out from ``training``. All this is filled in before the study is
checked, so that it is the same as one that states it: for the engines, in what is stored with results, and when a later
version has other defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from moonshine.config.training import Training

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "augment": {"crop_padding": 0, "flip": False},
    "training": {
        "batch_size": 64,
        "optimizer": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False},
        "schedule": {"kind": "one-cycle", "warmup": 0.3, "start": 0.1, "end": 0.001},
        "precision": "auto",
    },
    "runtime": {"threads": 1, "device": "auto", "channels_last": "auto", "compile": False},
    "report": {"published": None},
    "ship": {"allowed_error_pct": None, "calibration_images": 256, "logit_tolerance": 0.001},
}
_ABSENT = ("ship",)
"""Sections whose absence is itself a setting: nothing is exported."""


def with_defaults(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study with the defaults of what it leaves out; what it states is kept as it is, right or wrong."""
    filled = dict(content)
    for section, keys in DEFAULTS.items():
        stated = content.get(section, None if section in _ABSENT else {})
        filled[section] = {**keys, **stated} if isinstance(stated, Mapping) else stated
    training, students = filled["training"], filled.get("students")
    if "teacher" in filled:
        filled["teacher"] = _with_recipe(filled["teacher"], "finetune", training)
        filled["teacher"] = _with_recipe(filled["teacher"], "training", training)
    if isinstance(students, Mapping):
        filled["students"] = {
            name: _with_recipe(each, "training", training) for name, each in students.items()
        }
    return filled


def _with_recipe(section: Any, key: str, training: Any) -> Any:
    """Return the section of a network whose own recipe, under ``key``, has from ``training`` the keys it leaves out.

    A ``training`` that comes to the same as the study's is removed: stating what holds anyway is no change.
    """
    own = section.get(key) if isinstance(section, Mapping) else None
    if not isinstance(own, Mapping) or not isinstance(training, Mapping):
        return section
    complete = {**training, **own}
    with suppress(ValidationError):
        if key == "training" and Training.model_validate(complete) == Training.model_validate(training):
            return {name: value for name, value in section.items() if name != key}
    return {**section, key: complete}
