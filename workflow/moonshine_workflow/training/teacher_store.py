"""Store of the teacher's outputs for a node; the nodes of all studies share its folder."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from moonshine.config import Study
from moonshine.config.training import Training
from moonshine.data.store import Dataset
from moonshine.distillation.objective import phases_of
from moonshine.distillation.outputs import Needs
from moonshine.distillation.teacher_store.address import address, execution_address
from moonshine.distillation.teacher_store.store import Schedule, Store
from moonshine.distillation.term import Pair
from moonshine.files import sha256
from moonshine.training.execution import Execution
from moonshine.training.processes import Processes
from moonshine_workflow.graph import nodes


def store_of(
    study: Study,
    recipe: Training,
    pair: Pair,
    inputs: dict[str, Any],
    dataset: Dataset,
    seed: int,
    execution: Execution,
    processes: Processes,
) -> Store | None:
    """Return the store for a distillation node, None if the study disables it or its methods read nothing to keep.

    ``recipe`` is the student's. Students with batches of one size share outputs, whatever else their recipes say.
    ``inputs`` are the node's, from `moonshine_workflow.training.files.inputs`.
    """
    bound, kept = study.runtime.teacher_store_bytes, kept_of(study, pair, recipe.epochs)
    if not bound or kept == Needs():
        return None
    about = {
        "data": inputs["data"],
        "teacher": [inputs["teacher"], sha256(nodes.teacher(study.study).folder / "structure.json")],
        "augment": study.augment.model_dump(),
        "kept": [kept.logits, kept.maps],
    }
    sizes = {study.recipe(student).batch_size for student in study.students}
    addresses = {
        (size, each): address({**about, "batch_size": size, "seed": each})
        for size in sizes
        for each in study.seeds
    }
    steps = -(-len(dataset.train) // recipe.batch_size)
    computed_by = execution_address(execution, processes.shard)
    schedule = Schedule(addresses[recipe.batch_size, seed], computed_by, kept, recipe.epochs, steps)
    return Store(nodes.TEACHER_STORE, bound, schedule, addresses.values())


def kept_of(study: Study, pair: Pair, epochs: int) -> Needs:
    """Return what the study's methods read from the teacher, all together, so that one pass serves all; no features.

    Methods that read features are left out: features are never kept.
    """
    lasting = [losses.phases(epochs)[-1][1] for losses in study.methods.values()]
    needs = [phases_of(pair, losses, epochs)[-1].teacher for losses in lasting if losses]
    return reduce(or_, (each for each in needs if not (each.features or each.input_gradient)), Needs())
