"""Optimisers, built on the functions behind ``torch.optim``.

The classes of ``torch.optim`` import TorchDynamo when they are constructed, which takes as long as importing torch
itself: half of the start-up time of every training process. The arithmetic is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from moonshine.config import training as config
from moonshine.config.training import Optimizer


class Updates(Protocol):
    """Interface of an optimiser, as training uses it."""

    def step(self, lr: float) -> None:
        """Update all parameters from their gradients, then drop the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a ``state_dict``."""


def make_optimizer(
    parameters: Iterable[nn.Parameter],
    settings: Optimizer | config.AdamSettings,
    decay_factors: Mapping[nn.Parameter, float] | None = None,
) -> Updates:
    """Return the optimiser of a study's ``training.optimizer``.

    The weight decay of a parameter in ``decay_factors`` is multiplied by its factor.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    decays = [settings.weight_decay * (decay_factors or {}).get(parameter, 1.0) for parameter in trained]
    return (
        Adam(trained, settings, decays)
        if isinstance(settings, config.AdamSettings)
        else SGD(trained, settings, decays)
    )


def _by_decay(parameters: list[nn.Parameter], decays: list[float]) -> Iterator[tuple[float, list[int]]]:
    """Yield each weight decay with the indices of the parameters that have it and a gradient."""
    for decay in dict.fromkeys(decays):
        pairs = enumerate(zip(parameters, decays, strict=True))
        if trained := [index for index, (own, its) in pairs if its == decay and own.grad is not None]:
            yield decay, trained


class SGD:
    """SGD with momentum; ``decays`` holds the weight decay of each parameter."""

    def __init__(self, parameters: list[nn.Parameter], settings: Optimizer, decays: list[float]) -> None:
        self._parameters, self._settings, self._decays = parameters, settings, decays
        self._momenta: list[Tensor | None] = [None] * len(parameters)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update from the gradients of all parameters, which it then drops."""
        for decay, trained in _by_decay(self._parameters, self._decays):
            momenta = [self._momenta[index] for index in trained]
            sgd(
                [self._parameters[index] for index in trained],
                [self._parameters[index].grad for index in trained],  # type: ignore[misc]
                momenta,
                foreach=True,
                weight_decay=decay,
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
        """Return the momenta, in the order of the parameters."""
        return {"momenta": self._momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        self._momenta = list(state["momenta"])


class Adam:
    """Adam or AdamW; ``decays`` holds the weight decay of each parameter."""

    def __init__(
        self, parameters: list[nn.Parameter], settings: config.AdamSettings, decays: list[float]
    ) -> None:
        self._parameters, self._settings, self._decays = parameters, settings, decays
        self._steps = [torch.zeros(()) for _ in self._parameters]
        self._means = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update from the gradients of all parameters, which it then drops."""
        for decay, trained in _by_decay(self._parameters, self._decays):
            adam(
                [self._parameters[index] for index in trained],
                [self._parameters[index].grad for index in trained],  # type: ignore[misc]
                [self._means[index] for index in trained],
                [self._squares[index] for index in trained],
                [],
                [self._steps[index] for index in trained],
                foreach=True,
                decoupled_weight_decay=self._settings.kind == "adamw",
                amsgrad=False,
                beta1=self._settings.betas[0],
                beta2=self._settings.betas[1],
                lr=lr,
                weight_decay=decay,
                eps=self._settings.eps,
                maximize=False,
            )
            for index in trained:
                self._parameters[index].grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return steps and moments, in the order of the parameters."""
        return {"steps": self._steps, "means": self._means, "squares": self._squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        self._steps = [step.cpu() for step in state["steps"]]  # torch counts steps on the CPU
        self._means, self._squares = list(state["means"]), list(state["squares"])
