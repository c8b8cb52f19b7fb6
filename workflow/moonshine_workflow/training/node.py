"""Training of one network to the end of its schedule, shared by teacher, scratch and distil."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from itertools import islice

import torch
from torch import nn

import moonshine
from moonshine import MoonshineError
from moonshine.compression.network import decoded
from moonshine.config import Study
from moonshine.config.compression import Compress
from moonshine.config.networks import WarmStart
from moonshine.data.batches import batches
from moonshine.data.description import Description
from moonshine.data.store import Dataset
from moonshine.distillation.objective import distillation
from moonshine.distillation.term import Pair
from moonshine.structures.artifacts import load
from moonshine.structures.build import from_structure
from moonshine.structures.structure import StudyStructure
from moonshine.training.checkpoint import Checkpoints, fingerprint
from moonshine.training.epoch import input_shape
from moonshine.training.history import History
from moonshine.training.labels import label_loss
from moonshine.training.objective import Objective
from moonshine.training.processes import launched, synchronised, together
from moonshine.training.train import train
from moonshine.training.updates.compressing import Compressing
from moonshine.training.updates.freezing import frozen
from moonshine.training.updates.phases import Phases
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.graph.structures import structure_of
from moonshine_workflow.training.configuration import configuration
from moonshine_workflow.training.files import evaluate_test, identity_of, inputs, write_outputs
from moonshine_workflow.training.given import start_pretrained
from moonshine_workflow.training.placement import execution_here
from moonshine_workflow.training.prepared import load_prepared
from moonshine_workflow.training.progress import Progress
from moonshine_workflow.training.teacher_store import store_of


def train_node(job: stage.Job) -> History:
    """Train the network of ``job``'s node and write the node's outputs.

    The loss is that of the node's method, or cross-entropy alone if it has none. The test set is evaluated here, once.
    If several processes train together, each of them calls this and the first one writes.
    """
    study, node = job.study, job.node
    structure = structure_of(study, node.student)
    processes = launched()
    folder = nodes.fetch(study.study).folder
    dataset = load_prepared(study)
    losses = study.methods[node.method] if node.method else None
    settings = configuration(study, node)
    settings["inputs"] = inputs(job, Description.read(folder / "dataset.json"), structure, losses is not None)
    config = {**settings, "runtime": study.runtime.model_dump()}
    seed: int = settings["seed"]
    torch.manual_seed(seed)
    network = from_structure(structure, study.trusted)
    recipe = study.recipe(node.student)
    start = None
    if node.stage == "teacher" and study.teacher.weights:
        structure = start_pretrained(network, structure, study.teacher)
        start = structure.start
    labels = label_loss(recipe, dataset.class_shares)
    # a run may be resumed with another number of devices
    exact = {**settings, "training": recipe.model_dump(exclude={"devices"})}
    checkpoints = Checkpoints(node.work, fingerprint(exact, moonshine.__version__))
    with ExitStack() as held:
        if processes.is_first:
            held.enter_context(stage.node_lock(node))
        execution = held.enter_context(execution_here(study, processes))
        held.enter_context(together(processes, execution.device))
        if start:
            held.enter_context(frozen(network, start.frozen))
        objective, store = Objective(labels), None
        if losses:
            teacher = load(nodes.teacher(study.study).folder, trust=study.trusted)
            student = study.students[str(node.student)]
            if not checkpoints.load(torch.device("cpu")):  # a resumed run has its own weights
                if student.is_teacher:
                    network.load_state_dict(teacher.state_dict())
                elif warm := student.warm_start:
                    _warm_start(network, teacher, structure.blocks, warm, dataset, seed)
        phases = _phases(study, node, network, structure)
        if recipe.sync_batch_norm and processes.count > 1:
            synchronised(network)
        if losses:
            pair = Pair(network, teacher, structure.taps, input_shape(dataset, study.augment))
            store = store_of(study, recipe, pair, settings["inputs"], dataset, seed, execution, processes)
            objective = held.enter_context(
                distillation(pair, losses, phases.epochs, execution, labels, seed, store)
            )
        train_network = partial(
            train,
            network,
            objective,
            dataset,
            recipe,
            study.augment,
            execution,
            seed=seed,
            checkpoints=checkpoints,
            processes=processes,
            phases=phases,
        )
        if not processes.is_first:
            return train_network()
        identity = identity_of(job, structure, seed)
        progress = Progress(node, phases.epochs, identity, config)
        history = train_network(observer=progress)
        compressed_bytes = None
        if structure.compress and history.status != "diverged":
            compressed_bytes = decoded(network)
            stage.logger.info("network.dc has %d bytes", compressed_bytes)
        history, test = evaluate_test(network, dataset, execution, history)
        if history.status == "diverged":
            if node.stage == "teacher":
                key = next((key for key in study.own_recipes if key.startswith("teacher.")), "training")
                raise MoonshineError(
                    f"the teacher diverged in epoch {len(history.rows)}, so nothing can be distilled from it; lower "
                    f"{key}.optimizer.lr (found {recipe.optimizer.lr})"
                )
            stage.logger.warning("diverged in epoch %d; recorded as such", len(history.rows))
        write_outputs(
            node, network, structure, config, history, identity, test, compressed_bytes=compressed_bytes
        )
        checkpoints.clear()
    job.timing |= {
        "seconds": round(progress.seconds, 3),
        "epoch_seconds": progress.epoch_seconds,
        "device": str(execution.device),
        "devices": processes.count,
        "precision": str(execution.dtype).removeprefix("torch."),
        "resumed": history.resumed,
        **({"teacher_batches": store.counts} if store else {}),
    }
    return history


def _phases(study: Study, node: nodes.Node, network: nn.Module, structure: StudyStructure) -> Phases:
    """Return the phases of a node's training: those of Deep Compression if the structure says so."""
    if structure.compress is None:
        return Phases(study.recipe(node.student))
    is_trained = node.method is not None and study.students[str(node.student)].is_teacher
    return Compressing(
        network, study.recipe(node.student), Compress.model_validate(structure.compress), is_trained
    )


def _warm_start(
    network: nn.Module,
    teacher: nn.Module,
    blocks: Mapping[str, str],
    warm: WarmStart,
    dataset: Dataset,
    seed: int,
) -> None:
    """Warm-start the student on the first batches of epoch -1, without augmentation."""
    from moonshine.distillation.warm_start import batch_size, warm_start

    loader = batches(
        dataset.train,
        batch_size=batch_size(dataset.input_shape),
        seed=seed,
        epoch=-1,
        augment=None,
        mean=dataset.mean,
        std=dataset.std,
        device="cpu",
    )
    images = [batch for batch, _ in islice(loader, warm.batches)]
    done = warm_start(network, teacher, blocks, images, warm)
    stage.logger.info("warm start: %s", done)
