"""Parameters of the nodes: a study as it is read, the same for both engines."""

from __future__ import annotations

import os
from functools import reduce
from pathlib import Path
from typing import Any

from moonshine.config.study import Study, load_study, parse_study
from moonshine.config.training import Training
from moonshine.files import read_json, sha256
from moonshine.networks.sources import sources
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.library import PUBLISHED_ERRORS, published_file
from moonshine_workflow.graph.structures import blocks_of

# Keys about the training of a network, which do not shape it.
TRAINED_TEACHER = ("seed", "weights", "weights_sha256", "weights_prefix", "head", "finetune", "training")
TRAINED_STUDENT = ("warm_start", "training")
_PUBLISHED = "published_sha256"


def resolved_values(study: Study) -> dict[str, Any]:
    """Return a study as JSON values without defaults, so that writing a default out changes nothing."""
    return study.model_dump(mode="json", exclude_defaults=True)


def parameters(study: Study) -> dict[str, Any]:
    """Everything that nodes have as parameters, and ``runtime``.

    That is the study as `resolved_values`; under ``layouts`` the settings that shape the network of the teacher and of
    each student, with the content of a structure file for its path; under ``recipes`` how each is trained; under
    ``code`` the checksums, by module, of the user's own code that builds these networks. ``report`` has the checksum of
    a CSV of the user's.

    Errors: ``MoonshineError`` for a module that is not found, and for a structure file as of `blocks_of`.
    """
    settings = resolved_values(study)
    students = {name: _without(each, TRAINED_STUDENT) for name, each in settings["students"].items()}
    for name, student in students.items():
        if "structure" in student:
            student["structure"] = blocks_of(study, name)
    published = study.report.published
    if published and Path(published).parent != PUBLISHED_ERRORS:  # those are inputs of their nodes
        settings["report"][_PUBLISHED] = sha256(published_file(published))
    return {
        **settings,
        "layouts": {
            "teacher": _without(settings["teacher"], TRAINED_TEACHER),
            "students": students,
        },
        "recipes": {
            "teacher": _recipe(study.recipe()),
            "students": {name: _recipe(study.recipe(name)) for name in students},
        },
        "code": {
            "teacher": sources(study.teacher.name),
            "students": {name: sources(student.network or "") for name, student in study.students.items()},
        },
    }


def _recipe(recipe: Training) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude_defaults=True)


def _without(section: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in keys}


def parameter(settings: dict[str, Any], key: str) -> Any:
    """Return the value of a key such as ``methods.at``, None if there is none."""
    found: Any = settings
    return reduce(lambda found, part: found and found.get(part), key.split("."), found)


def study_of_job(root: Path = Path()) -> Study:
    """Return the study for the commands of both engines: params.yaml as it was when the engine started.

    Errors: ``MoonshineError`` as of `moonshine.config.load_study`.
    """
    path = os.environ.get(nodes.PARAMS_VARIABLE)
    if path is None:
        return load_study(root / nodes.PARAMS)
    content = read_json(root / path)
    content["report"].pop(_PUBLISHED, None)
    return parse_study({key: content[key] for key in Study.model_fields}, path)
