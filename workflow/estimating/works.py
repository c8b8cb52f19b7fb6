"""The distinct networks and losses of a study: what has to be timed, each once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from moonshine.budgets import parse_all
from moonshine.config import Method, Study
from moonshine.config.types import Section, Sha256, Whole
from moonshine.errors import MoonshineError
from moonshine.files import read_json
from moonshine.networks.blocks import parse
from moonshine.networks.build import is_model, to_structure
from moonshine.search.rivals import rival
from workflow import nodes
from workflow.estimating.arithmetic import TEACHER, Kind, kinds
from workflow.estimating.data import Facts
from workflow.layouts import (
    Described,
    Images,
    Structure,
    described,
    named,
    teacher_structure,
    uniform,
    with_block,
)
from workflow.sizes import REBUILT_FROM

EVALUATION = "evaluation"
"""As a loss: a forward pass alone, in eval mode."""


class Work(Section):
    """What a device does for every batch; where two are equal, one image takes equally long.

    ``structure`` and ``teacher`` are checksums of what builds the networks, ``network`` is the first one in words.
    ``input_shape`` is (channels, height, width), ``precision`` as the study has it.
    """

    network: str
    structure: Sha256
    teacher: Sha256 | None
    loss: str
    input_shape: tuple[Whole, Whole, Whole]
    batch_size: Whole
    optimizer: str
    precision: str


@dataclass(frozen=True)
class Case:
    """A work and what it is made with; ``method`` is None for labels alone."""

    work: Work
    structure: Structure
    teacher: Structure | None = None
    method: Method | None = None


@dataclass(frozen=True)
class Cases:
    """How a kind of node trains, None where it does not, and how it is evaluated."""

    training: Case | None
    evaluation: Case

    def __iter__(self) -> Iterator[Case]:
        yield self.evaluation
        if self.training:
            yield self.training


def cases(study: Study, facts: Facts) -> dict[Kind, Cases]:
    """What is to be timed for every kind of node of the study.

    MoonshineError naming the key of the study for a network that cannot be built or is not known yet.
    """
    images = Images(facts.shape, facts.classes, {})
    teacher = teacher_structure(study, images)
    laid_out: dict[str, Described] = {}
    structures = {name: _student(study, name, images, laid_out) for name in study.students}
    found = {}
    for student, kind in kinds(study):
        structure = structures.get(student, teacher)
        if kind == TEACHER and study.teacher.weights:
            training = None
        else:
            training = _training(study, facts, structure, teacher, study.methods.get(kind))
        found[student, kind] = Cases(training, _evaluation(study, facts, structure))
    return found


def _training(
    study: Study, facts: Facts, structure: Structure, teacher: Structure, method: Method | None
) -> Case:
    crop = study.augment.crop
    shape = (facts.shape[0], crop[0], crop[1]) if crop else facts.shape
    if method is None:
        return Case(_work(study, structure, None, "ce", shape), structure)
    loss = "+".join(name for name, term in method if term is not None)
    work = _work(study, structure, teacher, loss, shape)
    return Case(work, {**structure, "taps": teacher["taps"]}, teacher, method)


def _evaluation(study: Study, facts: Facts, structure: Structure) -> Case:
    return Case(_work(study, structure, None, EVALUATION, facts.shape), structure)


def _work(
    study: Study, structure: Structure, teacher: Structure | None, loss: str, shape: tuple[int, int, int]
) -> Work:
    block = structure["block"]
    return Work(
        network=structure["network"] if block == "S" else f"{structure['network']} with {block}",
        structure=_checksum(structure),
        teacher=_checksum(teacher) if teacher else None,
        loss=loss,
        input_shape=shape,
        batch_size=study.training.batch_size,
        optimizer=study.training.optimizer.kind,
        precision=study.training.precision,
    )


def _checksum(structure: Structure) -> str:
    built_from = {key: structure[key] for key in REBUILT_FROM if key in structure}
    return hashlib.sha256(json.dumps(built_from, sort_keys=True).encode()).hexdigest()


def _student(study: Study, name: str, images: Images, laid_out: dict[str, Described]) -> Structure:
    """What a student is; a mixed one is known once it was searched for."""
    key, student = f"students.{name}", study.students[name]
    if student.mixed:
        return _searched(study, name, images)
    if student.rival:
        scale, budgets = student.rival.scale, parse_all(student.rival.budget)
        network = named(key, lambda: rival(study.teacher.name, scale, budgets, images.classes, images.shape))
        return {**to_structure(network, "S", images.classes, images.shape[0]), "block": "S"}
    network, block = study.network_of(name), study.block_of(name)
    if not is_model(network):
        return named(key, lambda: uniform(study, network, block, images))
    return named(key, lambda: _in_model(study, network, block, images, laid_out))


def _in_model(
    study: Study, network: str, block: str, images: Images, laid_out: dict[str, Described]
) -> Structure:
    """As `workflow.layouts.uniform`, which lays a model out anew for every block."""
    if network not in laid_out:
        laid_out[network] = described(study, network, images)
    return with_block(network, str(parse(block)), laid_out[network])


def _searched(study: Study, name: str, images: Images) -> Structure:
    """The mixture that the student's structure stage has found with the settings it has now."""
    mixed, path = study.students[name].mixed, nodes.structure(study.study, name).outputs[0]
    assert mixed
    wanted = {
        "settings": mixed.model_dump(mode="json"),
        "num_classes": images.classes,
        "in_channels": images.shape[0],
    }
    found = read_json(path) if path.exists() else {}
    about = {**found, **found.get("search", {})}
    if any(about.get(key) != value for key, value in wanted.items()):
        raise MoonshineError(
            f"students.{name}.mixed: its blocks are found by a search, which has not run with these settings; allowed: "
            f"run `snakemake {path.as_posix()}` or `dvc repro structure@{study.study}-{name}` first, or name other "
            "students with --student"
        )
    return found
