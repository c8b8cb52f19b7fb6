"""Learning rates at exactly the stated places."""

from __future__ import annotations

import pytest

from moonshine.config.training import Training
from moonshine.training.updates.schedules import learning_rate

SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False}


def training(epochs: int, schedule: dict[str, object]) -> Training:
    return Training.model_validate(
        {"epochs": epochs, "batch_size": 128, "optimizer": SGD, "schedule": schedule, "precision": "fp32"}
    )


def test_the_papers_drops_act_at_exactly_epochs_60_120_and_160() -> None:
    paper = training(200, {"kind": "step", "drops": [60, 120, 160], "factor": 0.2})
    rates = [learning_rate(paper, epoch, 0, 391) for epoch in range(200)]
    assert rates[:60] == [0.1] * 60
    assert rates[60:120] == pytest.approx([0.02] * 60)
    assert rates[120:160] == pytest.approx([0.004] * 40)
    assert rates[160:] == pytest.approx([0.0008] * 40)
    assert learning_rate(paper, 59, 390, 391) == 0.1


def test_one_cycle_starts_peaks_and_ends_where_it_says() -> None:
    cycle = training(10, {"kind": "one-cycle", "warmup": 0.3, "start": 0.1, "end": 0.01})
    steps = 7
    rates = [learning_rate(cycle, epoch, step, steps) for epoch in range(10) for step in range(steps)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[21] == pytest.approx(0.1)
    assert rates[:22] == sorted(rates[:22])
    assert rates[21:] == sorted(rates[21:], reverse=True)
    assert 0.001 < rates[-1] < 0.0015


def test_one_cycle_without_warm_up_starts_at_the_peak() -> None:
    cycle = training(4, {"kind": "one-cycle", "warmup": 0.0, "start": 0.1, "end": 0.0})
    assert learning_rate(cycle, 0, 0, 5) == 0.1


def test_poly_steps_by_epoch_and_never_reaches_zero() -> None:
    poly = training(150, {"kind": "poly", "power": 0.9})
    rates = [learning_rate(poly, epoch, step, 10) for epoch in range(150) for step in (0, 9)]
    assert rates[0] == rates[1] == 0.1
    assert rates[150] == rates[151] == pytest.approx(0.1 * 0.5**0.9)
    assert rates[-1] == pytest.approx(0.1 * (1 / 150) ** 0.9)
