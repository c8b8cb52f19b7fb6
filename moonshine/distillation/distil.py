"""Distillation: the loss that pulls a student to its teacher, and the call that trains with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from moonshine.checkpoint import Checkpoints
from moonshine.config import Augment, Method, Training
from moonshine.data import Dataset
from moonshine.distillation.losses import attention_transfer, knowledge_distillation
from moonshine.distillation.taps import record
from moonshine.errors import MoonshineError
from moonshine.training.execution import Execution
from moonshine.training.labels import class_weights, cross_entropy
from moonshine.training.train import SILENT, History, Loss, Observer, train


@contextmanager
def distillation(
    student: nn.Module,
    teacher: nn.Module,
    method: Method,
    taps: Sequence[str],
    execution: Execution,
    class_weights: Tensor | None = None,
) -> Iterator[Loss]:
    """The loss of ``method`` for this pair, while its taps are attached.

    The teacher is put into eval mode and runs without gradients. ``taps`` are module paths that exist in both
    networks; attention is transferred between the outputs of equal paths. ``class_weights`` (K,) weigh the
    cross-entropy.
    """
    weights = None if class_weights is None else class_weights.to(execution.device)
    teacher = execution.place(teacher).eval().requires_grad_(False)
    with ExitStack() as stack:
        ours: Mapping[str, Tensor] = {}
        theirs: Mapping[str, Tensor] = {}
        if method.at:
            ours = stack.enter_context(record(student, taps))
            theirs = stack.enter_context(record(teacher, taps))

        def loss(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
            with torch.no_grad():
                wanted = teacher(images).float()
            logits = network(images)
            if method.kd:
                settings = method.kd.model_dump()
                terms = knowledge_distillation(logits, wanted, labels, **settings, class_weights=weights)
            else:
                terms = {"ce": cross_entropy(logits, labels, weights)}
            if method.at:
                pairs = [ours[tap] for tap in taps], [theirs[tap] for tap in taps]
                terms["at"] = attention_transfer(*pairs, **method.at.model_dump())
            return logits, terms

        yield loss


def distil(
    student: nn.Module,
    teacher: nn.Module,
    data: Dataset | Path | str,
    *,
    method: Method,
    training: Training,
    augment: Augment,
    seed: int = 0,
    taps: Sequence[str] | None = None,
    execution: Execution | None = None,
    checkpoints: Checkpoints | None = None,
    observer: Observer = SILENT,
) -> History:
    """Train ``student`` in place on ``data`` with the distillation ``method`` from ``teacher``.

    ``data`` is a dataset or a folder that ``moonshine.datasets.prepare`` wrote. ``taps`` defaults to
    ``teacher.taps``; a network without that attribute needs them given when attention is transferred.
    Errors: ``MoonshineError`` for taps that are missing or differ in size between the two networks.
    """
    from moonshine.data import load

    dataset = data if isinstance(data, Dataset) else load(Path(data))
    execution = execution or Execution(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    found = taps if taps is not None else getattr(teacher, "taps", None)
    if method.at and not found:
        raise MoonshineError(
            "taps: none given, and the teacher has no attribute 'taps'; name the modules to transfer"
        )
    weights = class_weights(training, dataset.class_shares)
    with distillation(student, teacher, method, tuple(found or ()), execution, weights) as loss:
        return train(
            student,
            loss,
            dataset,
            training,
            augment,
            execution,
            seed=seed,
            checkpoints=checkpoints,
            observer=observer,
        )
