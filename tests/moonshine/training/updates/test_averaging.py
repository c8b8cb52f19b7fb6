"""The moving average of weights: its rule, what it leaves alone, and where training uses it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from moonshine.config.augment import Augment
from moonshine.config.training import Training
from moonshine.data.store import Dataset
from moonshine.structures.build import build
from moonshine.training.evaluation import evaluate
from moonshine.training.execution import Execution
from moonshine.training.history import History
from moonshine.training.objective import Objective
from moonshine.training.train import train
from moonshine.training.updates.averaging import Average


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.norm = nn.BatchNorm2d(1)


def test_the_average_follows_its_rule() -> None:
    small = Small()
    average, expected = Average(small, 0.3), 0.0
    for done, value in enumerate((1.0, 5.0, -2.0, 8.0)):
        decay = min(0.3, (1 + done) / (10 + done))  # 0.1, 2/11, 0.25, then 0.3
        expected = decay * expected + (1 - decay) * value
        with torch.no_grad():
            small.weight.fill_(value)
        average.update(done)
    with average.applied():
        assert small.weight.item() == pytest.approx(expected, rel=1e-12)
    assert small.weight.item() == 8.0


def test_floating_point_buffers_are_averaged_and_others_copied() -> None:
    small = Small()
    average = Average(small, 0.9)
    small.norm(torch.full((2, 1, 1, 1), 10.0))
    assert small.norm.running_mean is not None
    assert small.norm.running_mean.item() == 1.0
    average.update(0)
    average.apply()
    assert small.norm.running_mean.item() == pytest.approx(0.9)
    assert small.norm.num_batches_tracked == 1


def trained(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> tuple[nn.Module, History]:
    torch.manual_seed(0)
    network = build("wrn-10-1", "G(4)", num_classes=2, in_channels=1)
    return network, train(network, Objective(), stripes, training, augment, execution, seed=0)


def test_training_goes_on_as_without_and_ends_with_the_average(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    own, plain = trained(stripes, training, augment, execution)
    averaged, history = trained(stripes, training.model_copy(update={"ema": 0.8}), augment, execution)
    for name in ("loss", "train_error_pct"):
        assert [row[name] for row in history.rows] == [row[name] for row in plain.rows]
    assert stripes.validation is not None
    found = evaluate(copy.deepcopy(averaged), stripes.validation, stripes, execution)
    assert found["loss"] == history.rows[-1]["validation_loss"] != plain.rows[-1]["validation_loss"]
    pairs = zip(averaged.parameters(), own.parameters(), strict=True)
    assert not any(torch.equal(one, other) for one, other in pairs)
