"""Phases of a training run: how many epochs, at which learning rate, and what holds of the weights in each."""

from __future__ import annotations

from typing import Any

from moonshine.config.training import Training
from moonshine.training.updates.schedules import learning_rate


class Phases:
    """Ordinary training, which is one phase; base class of what adds others."""

    def __init__(self, training: Training) -> None:
        self.training = training

    @property
    def epochs(self) -> int:
        """Return the number of epochs of all phases."""
        return self.training.epochs

    def begin(self, epoch: int) -> bool:
        """Prepare the network for an epoch; return whether a phase begins, with an optimiser that has seen nothing."""
        return False

    def learning_rate(self, epoch: int, step: int, steps: int) -> float:
        """Return the learning rate of a step, of so many ``steps`` of its epoch."""
        return learning_rate(self.training, epoch, step, steps)

    def constrain_gradients(self) -> None:
        """Change the gradients before the optimiser uses them."""

    def constrain_weights(self) -> None:
        """Change the weights after a step of the optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume, beside the weights."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a ``state_dict``."""
