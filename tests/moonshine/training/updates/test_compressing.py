"""Deep Compression as phases: what is pruned stays 0, what is shared stays equal, and resuming is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from moonshine.compression.pruning import kept_count, prunable
from moonshine.config.augment import Augment
from moonshine.config.compression import Compress
from moonshine.config.training import Training
from moonshine.data.store import Dataset
from moonshine.training.checkpoint import Checkpoints
from moonshine.training.execution import Execution
from moonshine.training.history import History, Observer
from moonshine.training.objective import Objective
from moonshine.training.train import train
from moonshine.training.updates.compressing import Compressing
from tests.moonshine.training.test_train import ADAMW, Killed, KilledAt, network, same

SPARSITY, BITS = 0.75, 2
SETTINGS = Compress.model_validate(
    {
        "sparsity": SPARSITY,
        "bits": BITS,
        "prune": {"rounds": 2, "epochs": 1, "lr": 0.05},
        "share": {"epochs": 2, "lr": 0.01},
    }
)


class Watch(Observer):
    """Looks at every layer's weights after every step."""

    def __init__(self, watched: nn.Module) -> None:
        self.weights = prunable(watched)
        self.kept: list[list[float]] = []
        self.distinct: list[int] = []

    def batch(self, done: int, total: int) -> None:
        self.kept.append([float((each != 0).float().mean()) for each in self.weights.values()])
        self.distinct.append(max(len(each[each != 0].unique()) for each in self.weights.values()))


def compress(
    trained: nn.Module,
    stripes: Dataset,
    training: Training,
    augment: Augment,
    execution: Execution,
    is_trained: bool = False,
    **more: Any,
) -> History:
    phases = Compressing(trained, training, SETTINGS, is_trained)
    return train(trained, Objective(), stripes, training, augment, execution, seed=0, phases=phases, **more)


@pytest.fixture
def short(training: Training) -> Training:
    return training.model_copy(update={"epochs": 1})


@pytest.mark.parametrize("optimizer", [None, ADAMW])
def test_pruned_weights_stay_zero_and_shared_ones_equal_after_every_step(
    optimizer: dict[str, Any] | None,
    stripes: Dataset,
    short: Training,
    augment: Augment,
    execution: Execution,
) -> None:
    recipe = short.model_dump(exclude_none=True) | ({"optimizer": optimizer} if optimizer else {})
    trained = network()
    watch = Watch(trained)
    history = compress(trained, stripes, Training.model_validate(recipe), augment, execution, observer=watch)
    assert [row["epoch"] for row in history.rows] == [0, 1, 2, 3, 4]
    steps = len(watch.kept) // 5
    sizes = [each.numel() for each in watch.weights.values()]
    for epoch, sparsity in enumerate((0.0, 0.5, 0.75, 0.75, 0.75)):  # a half of the weights in each round
        wanted = [kept_count(size, sparsity) / size for size in sizes]
        for kept in watch.kept[epoch * steps : (epoch + 1) * steps]:
            assert kept == pytest.approx(wanted, abs=1e-6)
    assert min(watch.distinct[: 3 * steps]) > 2**BITS
    assert max(watch.distinct[3 * steps :]) <= 2**BITS


def test_a_phase_has_a_learning_rate_that_falls_from_its_own_to_zero(training: Training) -> None:
    phases = Compressing(network(), training.model_copy(update={"epochs": 3}), SETTINGS)
    assert phases.epochs == 3 + 2 + 2
    rates = [[phases.learning_rate(epoch, step, 4) for step in range(4)] for epoch in range(3, 7)]
    cosine = [1.0, 0.853553, 0.5, 0.146447]
    assert rates[0] == rates[1] == pytest.approx([0.05 * share for share in cosine], rel=1e-5)
    long = [(1 + torch.tensor(torch.pi * step / 8).cos().item()) / 2 for step in range(8)]
    assert rates[2] + rates[3] == pytest.approx([0.01 * share for share in long], rel=1e-5)


def test_weights_of_a_cluster_move_by_the_sum_of_their_gradients(training: Training) -> None:
    layer = nn.Linear(6, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 0.1, -1.0, 0.2, 1.2, -0.1]])
    settings = SETTINGS.model_copy(update={"sparsity": 0.5, "bits": 1})
    phases = Compressing(layer, training, settings, is_trained=True)
    assert phases.begin(0)
    assert phases.begin(1)
    assert phases.begin(2)
    assert not phases.begin(3)
    assert layer.weight.tolist() == [pytest.approx([1.1, 0, -1.0, 0, 1.1, 0])]
    layer.weight.grad = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]])
    phases.constrain_gradients()
    assert layer.weight.grad.tolist() == [[17.0, 0.0, 4.0, 0.0, 17.0, 0.0]]
    layer.weight.data = torch.tensor([[0.5, 9.0, -2.0, 9.0, 0.5001, 9.0]])
    phases.constrain_weights()
    assert layer.weight.tolist() == [[0.5, 0.0, -2.0, 0.0, 0.5, 0.0]]


def test_nothing_need_be_pruned(
    stripes: Dataset, short: Training, augment: Augment, execution: Execution
) -> None:
    trained = network()
    phases = Compressing(trained, short, SETTINGS.model_copy(update={"sparsity": 0.0}))
    train(trained, Objective(), stripes, short, augment, execution, seed=0, phases=phases)
    for weights in prunable(trained).values():
        assert len(weights.unique()) <= 2**BITS
        assert weights.all()


@pytest.mark.parametrize(("epoch", "batch"), [(0, None), (1, 2), (2, None), (3, 2)])
def test_a_killed_run_ends_bit_identical_to_one_that_was_not(
    tmp_path: Path,
    stripes: Dataset,
    short: Training,
    augment: Augment,
    execution: Execution,
    epoch: int,
    batch: int | None,
) -> None:
    whole = network()
    expected = compress(whole, stripes, short, augment, execution)
    checkpoints = Checkpoints(tmp_path, "these settings")
    with pytest.raises(Killed):
        compress(
            network(), stripes, short, augment, execution,
            checkpoints=checkpoints, observer=KilledAt(epoch, batch),
        )  # fmt: skip
    resumed = network(seed=99 if epoch else 0)
    history = compress(resumed, stripes, short, augment, execution, checkpoints=checkpoints)
    assert same(resumed, whole)
    assert history.rows == expected.rows


def test_a_trained_network_is_only_compressed(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    trained = network()
    history = compress(trained, stripes, training, augment, execution, is_trained=True)
    assert len(history.rows) == 4
    assert all(len(each[each != 0].unique()) <= 2**BITS for each in prunable(trained).values())
