"""Store of the teacher's outputs for a node; the nodes of all studies share its folder."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from moonshine.config import Study
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
    pair: Pair,
    inputs: dict[str, Any],
    dataset: Dataset,
    seed: int,
    execution: Execution,
    processes: Processes,
) -> Store | None:
    """Return the store for a distillation node, None if the study disables it or its methods read nothing to keep.

    ``inputs`` are the node's, from `moonshine_workflow.training.files.inputs`.
    """
    training, bound = study.training, study.runtime.teacher_store_bytes
    kept = kept_of(study, pair)
    if not bound or kept == Needs():
        return None
    about = {
        "data": inputs["data"],
        "teacher": [inputs["teacher"], sha256(nodes.teacher(study.study).folder / "structure.json")],
        "augment": study.augment.model_dump(),
        "batch_size": training.batch_size,
        "kept": [kept.logits, kept.maps],
    }
    addresses = {each: address({**about, "seed": each}) for each in study.seeds}
    steps = -(-len(dataset.train) // training.batch_size)
    computed_by = execution_address(execution, processes.shard)
    schedule = Schedule(addresses[seed], computed_by, kept, training.epochs, steps)
    return Store(nodes.TEACHER_STORE, bound, schedule, addresses.values())


def kept_of(study: Study, pair: Pair) -> Needs:
    """Return what the study's methods read from the teacher, all together, so that one pass serves all; no features.

    Methods that read features are left out: features are never kept.
    """
    epochs = study.training.epochs
    lasting = [losses.phases(epochs)[-1][1] for losses in study.methods.values()]
    needs = [phases_of(pair, losses, epochs)[-1].teacher for losses in lasting if losses]
    return reduce(or_, (each for each in needs if not (each.features or each.input_gradient)), Needs())
