"""How much of the teacher's outputs a study's nodes need not compute, since another node of their seed has."""

from __future__ import annotations

from itertools import chain

import torch

from moonshine.config import Study
from moonshine.distillation.outputs import Needs, reading
from moonshine.distillation.teacher_store.store import LEAST_SHARE
from moonshine.distillation.term import Pair
from moonshine.structures.build import from_structure
from moonshine.structures.structure import StudyStructure
from moonshine.training.execution import Execution
from moonshine_workflow.commands.estimating.dataset_size import DatasetSize
from moonshine_workflow.training.teacher_store import kept_of


def share_kept(study: Study, size: DatasetSize, teacher: StudyStructure) -> float:
    """The share of the outputs for all seeds that the store holds, by the bytes of logits and maps of one image."""
    network = from_structure(teacher, study.trusted)
    shape = size.shape[0], *(study.augment.crop or size.shape[1:])
    kept = kept_of(study, Pair(network, network, teacher.taps, shape))
    if kept == Needs():
        return 0.0
    with reading(network.eval(), kept, Execution(torch.device("cpu")), shape) as read, torch.no_grad():
        outputs = read(network, torch.zeros(1, *shape), kept)
    of_logits = outputs.logits.numel() if outputs.logits is not None and kept.logits else 0
    values = sum(chain([of_logits], (each.numel() for each in outputs.maps.values())))
    schedule = 2 * values * size.train * study.training.epochs
    bound, everything = study.runtime.teacher_store_bytes, schedule * len(study.seeds)
    return min(1.0, bound / everything) if bound >= LEAST_SHARE * schedule else 0.0
