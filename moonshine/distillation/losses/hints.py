"""Hints (FitNets): the student first learns to predict a hidden layer of the teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from moonshine.config.methods import Hints
from moonshine.distillation.outputs import Needs, Outputs
from moonshine.distillation.term import Pair, Term
from moonshine.errors import MoonshineError
from moonshine.substitution.watching import record_calls
from moonshine.training.labels import at_least_fp32
from moonshine.training.objective import Batch

BOUND = 0.05
"""The regressor's weights begin uniform within plus and minus this, as in the authors' code; its biases at 0."""


class Loss(Term):
    """Hint loss, which trains the student up to its guided layer and a regressor from there to the hint layer.

    The regressor is a 1x1 convolution. Unlike the paper's, it has no non-linearity and no bound on the norm of its
    kernels; layers of different sizes, for which the paper uses a larger kernel, are refused.
    Source: Romero et al., "FitNets", 2015, section 2.2.
    """

    def __init__(self, settings: Hints, pair: Pair) -> None:
        super().__init__()
        hint = _shape("hint", settings.hint, "teacher", pair.teacher, pair.input_shape)
        guided = _shape("guided", settings.guided, "student", pair.student, pair.input_shape)
        if guided[1:] != hint[1:]:
            raise MoonshineError(
                f"hints.guided: found {settings.guided}, {_size(guided)} in the student, where hints.hint: "
                f"{settings.hint} is {_size(hint)} in the teacher; allowed: layers of the same resolution"
            )
        self.regressor = nn.Conv2d(guided[0], hint[0], 1)
        nn.init.uniform_(self.regressor.weight, -BOUND, BOUND)
        nn.init.zeros_(self.regressor.bias)  # type: ignore[arg-type]
        self.teacher, self.student = Needs(features=(settings.hint,)), Needs(features=(settings.guided,))
        self._weight = settings.weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ((path,), (hint,)) = self.student.features, self.teacher.features
        return self._weight * hint_loss(self.regressor(student.features[path]), teacher.features[hint])


def hint_loss(predicted: Tensor, hint: Tensor) -> Tensor:
    """``1/2 * sum_channels (hint - predicted)^2``, averaged over samples and pixels: (N, C, H, W) twice -> a scalar."""
    with torch.autocast(predicted.device.type, enabled=False):
        difference = at_least_fp32(predicted) - at_least_fp32(hint.detach())
        return difference.square().sum(dim=1).mean() / 2


def _shape(
    key: str, path: str, whose: str, network: nn.Module, input_shape: Sequence[int]
) -> tuple[int, ...]:
    """Return the shape (channels, height, width) of a layer's output."""
    maps = {
        call.path: call.shape[1:]
        for call in record_calls(network, input_shape)
        if call.path and call.shape and len(call.shape) == 4
    }
    if path not in maps:
        allowed = ", ".join(f"{name} ({_size(shape)})" for name, shape in maps.items() if "." not in name)
        raise MoonshineError(
            f"hints.{key}: found {path}, which gives no map in the {whose}, a {type(network).__name__}; allowed: "
            f"{allowed}, and layers inside them"
        )
    return maps[path]


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[2]}"
