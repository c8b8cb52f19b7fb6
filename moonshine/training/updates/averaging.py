"""Exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Moving average of a network's parameters and buffers: ``d * average + (1 - d) * current`` after every step.

    ``d = min(decay, (1 + n) / (10 + n))`` after n earlier steps, so that short trainings forget their initial weights
    too (the rule of TensorFlow's ``ExponentialMovingAverage``). Floating-point buffers, such as the running statistics
    of batch norm, are averaged like parameters: those of the current weights would not suit averaged ones. Other
    buffers are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self._averages = [current.clone() for current in self._current()]

    def _current(self) -> list[Tensor]:
        return [each.detach() for each in (*self._network.parameters(), *self._network.buffers())]

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Take in the weights of a step, before which ``done`` others were taken in."""
        decay = min(self._decay, (1 + done) / (10 + done))
        pairs = list(zip(self._averages, self._current(), strict=True))
        averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        averages, current = zip(*averaged, strict=True)
        torch._foreach_lerp_(averages, current, 1 - decay)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the context, the network has the averages; afterwards its own weights, to the bit."""
        own = [current.clone() for current in self._current()]
        self.apply()
        try:
            yield
        finally:
            self._set(own)

    def apply(self) -> None:
        """Replace the network's weights by their averages."""
        self._set(self._averages)

    @torch.no_grad()
    def _set(self, values: Sequence[Tensor]) -> None:
        for current, value in zip(self._current(), values, strict=True):
            current.copy_(value)

    def state(self) -> list[Tensor]:
        """Return the averages, in the order of parameters and buffers."""
        return self._averages

    def load(self, state: Sequence[Tensor]) -> None:
        """Continue from a `state`."""
        for average, value in zip(self._averages, state, strict=True):
            average.copy_(value)
