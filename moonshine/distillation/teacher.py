"""Outputs of the teacher, for one batch after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from moonshine.distillation.outputs import Needs, Outputs, reading
from moonshine.networks.passes import evaluating
from moonshine.training.execution import Execution
from moonshine.training.objective import Batch

TeacherOutputs = Callable[[Batch, Needs], Outputs]
"""Outputs of the teacher, without gradients. A batch says at which epoch and step it comes."""


@contextmanager
def teacher_outputs(
    teacher: nn.Module, needs: Needs, execution: Execution, input_shape: tuple[int, ...]
) -> Iterator[TeacherOutputs]:
    """Within the context, what is yielded runs ``teacher`` in eval mode; afterwards the teacher is as it was."""
    with _borrowed(teacher), reading(teacher, needs, execution, input_shape) as read:

        @torch.no_grad()
        def outputs(batch: Batch, needs: Needs) -> Outputs:
            if needs == Needs():
                return Outputs()
            # of a copy, since a network may write into its input
            return read(teacher, batch.images.clone(), needs)

        yield outputs


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
