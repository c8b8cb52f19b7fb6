"""Stochastic gradient descent with momentum, on torch's functional form of it.

``torch.optim.SGD`` imports TorchDynamo when it is constructed, which takes as long as importing torch: half
of the start-up of every training process. The arithmetic is the same function's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from moonshine.config import Optimizer


class SGD:
    """Updates every parameter in place; weight decay acts on all of them, as in the paper."""

    def __init__(self, parameters: Iterable[nn.Parameter], settings: Optimizer) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._momenta: list[Tensor | None] = [None] * len(self._parameters)
        self._settings = settings

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update from the gradients of all parameters, which it then drops."""
        trained = [index for index, parameter in enumerate(self._parameters) if parameter.grad is not None]
        momenta = [self._momenta[index] for index in trained]
        sgd(
            [self._parameters[index] for index in trained],
            [self._parameters[index].grad for index in trained],  # type: ignore[misc]
            momenta,
            foreach=True,
            weight_decay=self._settings.weight_decay,
            momentum=self._settings.momentum,
            lr=lr,
            dampening=0.0,
            nesterov=self._settings.nesterov,
            maximize=False,
        )
        for index, momentum in zip(trained, momenta, strict=True):
            self._momenta[index] = momentum
            self._parameters[index].grad = None

    def state_dict(self) -> dict[str, Any]:
        """The momenta, in the order of the parameters."""
        return {"momenta": self._momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        self._momenta = list(state["momenta"])
