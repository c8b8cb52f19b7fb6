"""The distillation loss of a student against its teacher, and ``moonshine.distil``, which trains with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.training import Training
from moonshine.data import Dataset
from moonshine.distillation.at import attention_transfer
from moonshine.distillation.kd import knowledge_distillation
from moonshine.distillation.taps import overwritten, record
from moonshine.errors import MoonshineError
from moonshine.networks.passes import evaluating
from moonshine.training.checkpoint import Checkpoints
from moonshine.training.execution import Execution
from moonshine.training.labels import check_no_probabilities, class_weights, cross_entropy
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

    Within the context the teacher is in eval mode and runs without gradients; afterwards it is as it was. ``taps`` are
    module paths that exist in both networks; attention is transferred between the outputs of equal paths.
    ``class_weights`` (K,) weigh the cross-entropy.
    """
    weights = None if class_weights is None else class_weights.to(execution.device)
    with ExitStack() as stack:
        stack.enter_context(_borrowed(teacher, execution))
        ours: Mapping[str, Tensor] = {}
        theirs: Mapping[str, Tensor] = {}
        copied: tuple[set[str], set[str]] = (set(), set())
        if method.at:
            ours = stack.enter_context(record(student, taps, copied[0]))
            theirs = stack.enter_context(record(teacher, taps, copied[1]))
        layouts: list[torch.memory_format] = []  # the teacher's, from the first batch on

        def look(images: Tensor) -> None:
            layouts.append(execution.suiting(teacher, images.shape[1:]).memory_format)
            if method.at:
                for network, overwrites in zip((student, teacher), copied, strict=True):
                    overwrites |= overwritten(network, taps, images)

        def loss(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
            if is_first := not layouts:
                look(images)
            with torch.no_grad():
                # of a copy, since a network may write into its input
                wanted = teacher(images.clone().contiguous(memory_format=layouts[0])).float()
            logits = network(images)
            if is_first:
                check_no_probabilities(wanted, "the teacher")
                check_no_probabilities(logits, "the student")
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


def _check_types(**given: tuple[Any, Any]) -> None:
    for name, (value, allowed) in given.items():
        if not isinstance(value, allowed):
            kinds = getattr(allowed, "__args__", (allowed,))
            raise MoonshineError(
                f"{name}: found a {type(value).__name__}; allowed: "
                + " or ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
            )


@contextmanager
def _borrowed(teacher: nn.Module, execution: Execution) -> Iterator[None]:
    """Within the context the teacher is placed, frozen and in eval mode; afterwards it is its owner's again."""
    tensors = [(own, own.data, own.requires_grad) for own in teacher.parameters()]
    buffers = [(layer, dict(layer._buffers)) for layer in teacher.modules()]
    with evaluating(teacher):
        execution.place(teacher).requires_grad_(False)
        try:
            yield
        finally:
            for parameter, data, needs_gradient in tensors:
                parameter.data = data
                parameter.requires_grad_(needs_gradient)
            for layer, own in buffers:
                layer._buffers.update(own)


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

    ``data`` is a dataset or a folder that ``moonshine.preparation.prepare.prepare_dataset`` wrote. ``taps`` defaults to
    ``teacher.taps``; a network without that attribute needs them given when attention is transferred.
    The teacher is afterwards as it was.
    Errors: ``MoonshineError`` for arguments of other types, for a network that returns probabilities, and for taps that
    are missing or differ in size between the two networks.
    """
    from moonshine.data import load

    _check_types(
        student=(student, nn.Module),
        teacher=(teacher, nn.Module),
        data=(data, Dataset | Path | str),
        method=(method, Method),
        training=(training, Training),
        augment=(augment, Augment),
    )
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
