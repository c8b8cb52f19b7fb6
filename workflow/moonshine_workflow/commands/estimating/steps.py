"""Size of a study's dataset, and its training steps: each distinct one is timed once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache

from moonshine.config import Study
from moonshine.config.methods import Method
from moonshine.config.training import Training
from moonshine.data.description import Description
from moonshine.datasets.kind import DatasetSize
from moonshine.errors import MoonshineError
from moonshine.structures.structure import Structure, StudyStructure
from moonshine_workflow.graph import nodes
from moonshine_workflow.students.layouts import (
    Images,
    describe_network,
    teacher_structure,
    unsearched_structure,
)
from moonshine_workflow.students.mixing import settings_of

TEACHER, SCRATCH = "teacher", "scratch"


@dataclass(frozen=True)
class TimedStep:
    """Optimiser step of a recipe on a batch; ``teacher`` and ``method`` are None without distillation.

    ``key`` names what its speed depends on, with a checksum of the networks.
    """

    key: str
    structure: Structure
    recipe: Training
    teacher: StudyStructure | None = None
    method: Method | None = None


Steps = dict[tuple[str, str], tuple[tuple[int, TimedStep], ...]]
"""(epochs, step) of each phase of training, by student and `SCRATCH` or the key of a method.

The first entry is the teacher's training, under `TEACHER` twice, even if the teacher is pretrained.
"""


def dataset_size(study: Study) -> DatasetSize:
    """Return the size of the prepared dataset, or of a public one that is not prepared yet.

    Raises MoonshineError for a dataset of the user's own that is not prepared.
    """
    fetch = nodes.fetch(study.study)
    if fetch.is_done():
        found = Description.read(fetch.folder / "dataset.json")
        return DatasetSize(**found.counts, shape=found.image_shape, classes=found.num_classes)
    public = study.data.public_size()
    if public is None:
        raise MoonshineError(
            f"data.name: the size of {study.data.name} is not known before it is prepared; first run `snakemake "
            f"results/{study.study}/data/dataset.json` or `dvc repro fetch`"
        )
    validation = round(public.train * study.data.validation)
    most = study.data.limit or public.train + public.test
    return replace(
        public,
        train=min(public.train - validation, most),
        validation=min(validation, most),
        test=min(public.test, most),
    )


def steps_of(study: Study, size: DatasetSize) -> tuple[Steps, list[str]]:
    """Return the steps of everything that trains, and the mixed students whose search has not run.

    Raises MoonshineError naming the key of the study for a network that cannot be built.
    """
    images = Images(size.shape, size.classes)
    crop = tuple(study.augment.crop or size.shape[1:])
    teacher = teacher_structure(study, images)
    # laying out a model takes seconds: do it once, not for every block
    layout = cache(lambda network: describe_network(study, network, images))

    def step(recipe: Training, structure: Structure, method: Method | None = None) -> TimedStep:
        if method is None:
            return TimedStep(_key(recipe, "ce", crop, structure), structure, recipe)
        key = _key(recipe, method.loss, crop, structure, teacher)
        return TimedStep(key, structure, recipe, teacher, method)

    of_teacher = study.recipe()
    found: Steps = {(TEACHER, TEACHER): ((of_teacher.epochs, step(of_teacher, teacher)),)}
    unknown = []
    for name, student in study.students.items():
        structure = (
            _searched(study, name, images)
            if student.mixed
            else unsearched_structure(study, name, images, layout)
        )
        if structure is None:
            unknown.append(name)
            continue
        recipe = study.recipe(name)
        found[name, SCRATCH] = ((study.epochs_of(name), step(recipe, structure)),)
        for key, method in study.methods.items():
            phases = method.phases(study.epochs_of(name, key))
            found[name, key] = tuple((count, step(recipe, structure, part)) for count, part in phases)
    return found, unknown


def distinct(steps: Steps) -> dict[str, TimedStep]:
    """Return the steps by key."""
    return {step.key: step for phases in steps.values() for _, step in phases}


def _key(recipe: Training, loss: str, crop: tuple[int, ...], *structures: Structure) -> str:
    network, block = structures[0].network, structures[0].block
    built_from = [each.rebuilt_from() for each in structures]
    checksum = hashlib.sha256(json.dumps(built_from, sort_keys=True).encode()).hexdigest()
    return (
        f"{network if block == 'S' else f'{network} with {block}'}, {loss}, batches of {recipe.batch_size} of "
        f"{'x'.join(map(str, crop))}, {recipe.optimizer.kind}, precision {recipe.precision}, {checksum[:12]}"
    )


def _searched(study: Study, name: str, images: Images) -> Structure | None:
    """Return what a search with the study's settings has found, None if it has not run."""
    mixed, path = study.students[name].mixed, nodes.structure(study.study, name).outputs[0]
    assert mixed
    found = StudyStructure.read(path) if path.exists() else None
    wanted = settings_of(mixed), images.classes, images.shape[0]
    if found and found.search and (found.search.settings, found.num_classes, found.in_channels) == wanted:
        return found
    return None
