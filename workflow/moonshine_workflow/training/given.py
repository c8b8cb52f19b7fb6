"""Pretrained teachers: their weights, and the evaluation of one that is not trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from moonshine.config import Study
from moonshine.config.teacher import PUBLISHED, Teacher
from moonshine.data.description import Description
from moonshine.data.store import Dataset
from moonshine.errors import MoonshineError
from moonshine.structures.build import from_structure
from moonshine.structures.given_weights import load_given_weights, load_published_weights
from moonshine.structures.structure import StudyStructure
from moonshine.training.evaluation import evaluate, guessing_error
from moonshine.training.history import History
from moonshine.training.updates.freezing import frozen_layers
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.graph.metrics import Evaluation, Score
from moonshine_workflow.graph.structures import structure_of
from moonshine_workflow.training.configuration import configuration
from moonshine_workflow.training.files import evaluate_test, identity_of, inputs, write_outputs
from moonshine_workflow.training.placement import execution_here
from moonshine_workflow.training.prepared import load_prepared


def evaluate_node(job: stage.Job) -> None:
    """Write the outputs of a pretrained teacher, evaluated on the validation and test sets but not trained."""
    study, node = job.study, job.node
    structure = structure_of(study)
    folder = nodes.fetch(study.study).folder
    dataset = load_prepared(study)
    network = from_structure(structure, study.trusted)
    structure = start_pretrained(network, structure, study.teacher)
    settings = configuration(study, node)
    settings["inputs"] = inputs(job, Description.read(folder / "dataset.json"), structure, distils=False)
    config = {**settings, "runtime": study.runtime.model_dump()}
    identity = identity_of(job, structure, study.teacher.seed)
    history = History([])
    held = dataset.validation
    with execution_here(study) as execution:
        validation = None if held is None else _score(evaluate(network, held, dataset, execution))
        history, test = evaluate_test(network, dataset, execution, history)
    if test is None:
        raise MoonshineError(
            f"teacher.weights: with {study.teacher.weights} the loss on the test set is not finite; allowed: weights "
            "of a network that was trained on such images"
        )
    warnings = _warnings(study, dataset, test)
    for warning in warnings:
        stage.logger.warning("teacher.weights: %s", warning)
    write_outputs(node, network, structure, config, history, identity, test, validation, warnings)
    job.timing |= {"device": str(execution.device), "precision": str(execution.dtype).removeprefix("torch.")}


def start_pretrained(network: nn.Module, structure: StudyStructure, teacher: Teacher) -> StudyStructure:
    """Load a pretrained teacher's weights into its network; the structure returned says what was loaded and drawn.

    With ``finetune`` it also says what is to be frozen. MoonshineError as of `load_given_weights`, or `frozen_layers`.
    """
    new_head = structure.num_classes if teacher.head else None
    if teacher.weights == PUBLISHED:
        start = load_published_weights(network, teacher.name, new_head)
    else:
        path = Path(teacher.weights or "").expanduser()
        start = load_given_weights(
            network, path, teacher.weights_sha256 or "", teacher.weights_prefix, new_head
        )
    if teacher.finetune and teacher.finetune.freeze:
        layers = frozen_layers(network, teacher.finetune.freeze, structure.blocks, start.drawn)
        start = start.model_copy(update={"frozen": layers})
    return structure.model_copy(update={"start": start})


def _score(found: Mapping[str, Any]) -> Score:
    return Score(error_pct=found["error_pct"], loss=found["loss"] if math.isfinite(found["loss"]) else None)


def _warnings(study: Study, dataset: Dataset, test: Evaluation) -> list[str]:
    """Return caveats about a teacher that was not trained here, a sentence or two each."""
    found = []
    guess = guessing_error(dataset.test.labels, dataset)
    if test.error_pct >= guess:
        found.append(
            f"Its test error, {test.error_pct:.2f} %, is no better than that of always predicting the most common "
            f"class, {guess:.2f} %: check that its weights are for these classes in this order, and that "
            "data.normalisation is that of its training."
        )
    if dataset.validation is not None and study.data.validation > 0:
        found.append(
            "It is pretrained, and the validation images were split off from the training images here (unless the data "
            "come with a validation set): if it was trained on all of them, its validation error is too low."
        )
    return found
