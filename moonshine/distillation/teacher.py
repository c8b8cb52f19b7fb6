"""Outputs of the teacher, for one batch after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import nn

from moonshine.distillation.outputs import Needs, Outputs, TeacherOutputs, reading, rounded
from moonshine.distillation.teacher_store.store import Store
from moonshine.networks.passes import evaluating
from moonshine.training.execution import Execution
from moonshine.training.objective import Batch


@contextmanager
def teacher_outputs(
    teacher: nn.Module,
    needs: Needs,
    execution: Execution | None,
    input_shape: tuple[int, ...],
    store: Store | None = None,
) -> Iterator[TeacherOutputs]:
    """Within the context, what is yielded runs ``teacher`` in eval mode, unless ``store`` has what it would give.

    Logits and attention maps are rounded to half precision. Afterwards the teacher is as it was.
    """
    with ExitStack() as held:
        held.enter_context(_borrowed(teacher))
        read = held.enter_context(
            reading(teacher, needs | store.kept if store else needs, execution, input_shape)
        )

        @torch.no_grad()
        def outputs(batch: Batch, needs: Needs) -> Outputs:
            if needs == Needs():
                return Outputs()
            # of a copy, since a network may write into its input
            return rounded(read(teacher, replace(batch, images=batch.images.clone()), needs))

        yield held.enter_context(store.cached(outputs)) if store else outputs


@contextmanager
def _borrowed(teacher: nn.Module) -> Iterator[None]:
    """Freeze the teacher in eval mode; at the end its tensors, their places and its modes are its owner's again."""
    tensors = [(own, own.data, own.requires_grad) for own in teacher.parameters()]
    buffers = [(layer, dict(layer._buffers)) for layer in teacher.modules()]
    with evaluating(teacher):
        teacher.requires_grad_(False)
        try:
            yield
        finally:
            for parameter, data, needs_gradient in tensors:
                parameter.data = data
                parameter.requires_grad_(needs_gradient)
            for layer, own in buffers:
                layer._buffers.update(own)
