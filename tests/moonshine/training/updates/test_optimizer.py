"""Our optimisers are torch's, step for step, and continue from their state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from moonshine.config.training import AdamSettings, Optimizer, Training
from moonshine.training.updates.optimizer import Updates, make_optimizer

SETTINGS: list[dict[str, Any]] = [
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False},
    {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "nesterov": True},
    {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.01, "nesterov": False},
]
ADAM = {"kind": "adam", "lr": 0.1, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.01}
ADAMW = {**ADAM, "kind": "adamw", "weight_decay": 0.1}
SETTINGS += [ADAM, ADAMW]
RATES = (0.1, 0.05, 0.2)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 2))


def backward(trained: nn.Module, step: int) -> None:
    torch.manual_seed(step)
    trained(torch.randn(4, 1, 8, 8)).square().mean().backward()


def reference_of(settings: dict[str, Any], parameters: Any) -> torch.optim.Optimizer:
    own = {key: value for key, value in settings.items() if key != "kind"}
    kinds: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    found: torch.optim.Optimizer = kinds[settings.get("kind", "sgd")](parameters, **own)
    return found


def ours_of(settings: dict[str, Any], trained: nn.Module) -> Updates:
    section = {"epochs": 1, "batch_size": 2, "schedule": {"kind": "poly", "power": 1.0}, "precision": "fp32"}
    return make_optimizer(
        trained.parameters(), Training.model_validate({**section, "optimizer": settings}).optimizer
    )


@pytest.mark.parametrize("settings", SETTINGS)
def test_it_takes_the_steps_of_torchs_own(settings: dict[str, Any]) -> None:
    ours, theirs = network(), network()
    mine, reference = ours_of(settings, ours), reference_of(settings, theirs.parameters())
    for step, rate in enumerate(RATES):
        backward(ours, step)
        mine.step(rate)
        backward(theirs, step)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        reference.zero_grad()
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("settings", [SETTINGS[0], ADAM, ADAMW])
def test_a_factor_changes_the_weight_decay_of_its_parameter(settings: dict[str, Any]) -> None:
    ours, theirs = network(), network()
    first, *others = theirs.parameters()
    groups = [{"params": others}, {"params": [first], "weight_decay": 0.25 * settings["weight_decay"]}]
    reference = reference_of(settings, groups)
    section = (AdamSettings if "kind" in settings else Optimizer).model_validate(settings)
    mine = make_optimizer(ours.parameters(), section, {next(ours.parameters()): 0.25})
    for step in range(3):
        backward(ours, step)
        mine.step(settings["lr"])
        backward(theirs, step)
        reference.step()
        reference.zero_grad()
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("settings", [SETTINGS[0], ADAM])
def test_it_continues_from_its_state(settings: dict[str, Any]) -> None:
    whole = network()
    optimizer = ours_of(settings, whole)
    backward(whole, 0)
    optimizer.step(0.1)
    resumed, state = copy.deepcopy(whole), copy.deepcopy(optimizer.state_dict())
    again = ours_of(settings, resumed)
    again.load_state_dict(state)
    for trained, stepper in ((whole, optimizer), (resumed, again)):
        backward(trained, 1)
        stepper.step(0.1)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_frozen_parameter_stays_as_it_is() -> None:
    trained = network()
    frozen = next(trained.parameters()).requires_grad_(False)
    before = frozen.clone()
    backward(trained, 0)
    make_optimizer(trained.parameters(), Optimizer.model_validate(SETTINGS[0])).step(0.1)
    assert torch.equal(frozen, before)
