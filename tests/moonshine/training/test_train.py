"""The loop: it learns, it resumes to the bit, it records divergence, it treats every method alike."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moonshine.config.augment import Augment
from moonshine.config.training import Training
from moonshine.data.store import Dataset, Split
from moonshine.errors import MoonshineError
from moonshine.structures.build import build
from moonshine.training.checkpoint import Checkpoints
from moonshine.training.evaluation import evaluate
from moonshine.training.execution import Execution
from moonshine.training.history import OWN_COLUMNS, HistoryRow, Observer
from moonshine.training.labels import label_loss
from moonshine.training.objective import Batch, Objective, Terms
from moonshine.training.train import train
from tests.messages import naming

FIELDS = {"epoch", "lr", "loss", "ce", "train_error_pct", "validation_error_pct", "validation_loss"}


class Killed(Exception):
    """Stands for a process that dies."""


class KilledAt(Observer):
    """Dies in the middle of an epoch, or at its end before the checkpoint is written."""

    def __init__(self, epoch: int, batch: int | None) -> None:
        self.at, self.now = (epoch, batch), 0

    def batch(self, done: int, total: int) -> None:
        if self.at == (self.now, done):
            raise Killed

    def epoch(self, row: HistoryRow) -> None:
        if self.at == (self.now, None):
            raise Killed
        self.now += 1


class Recorder(Observer):
    def __init__(self) -> None:
        self.before: list[HistoryRow] = []
        self.rows: list[HistoryRow] = []

    def resumed(self, rows: Sequence[HistoryRow]) -> None:
        self.before = list(rows)

    def epoch(self, row: HistoryRow) -> None:
        self.rows.append(row)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build("wrn-10-1", "G(4)", num_classes=2, in_channels=1)


def same(left: nn.Module, right: nn.Module) -> bool:
    other = right.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in left.state_dict().items())


def test_it_learns_and_writes_a_row_per_epoch(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    longer = training.model_copy(update={"epochs": 6})
    trained, told = network(), Recorder()
    history = train(trained, Objective(), stripes, longer, augment, execution, seed=0, observer=told)
    assert history.status == "completed"
    assert [row["epoch"] for row in history.rows] == list(range(6))
    assert all(set(row) == FIELDS for row in history.rows)
    assert told.rows == history.rows
    assert evaluate(trained, stripes.test, stripes, execution)["error_pct"] < 25
    assert not same(trained, network())


def test_the_history_of_a_study_without_validation_has_no_validation(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    whole = Dataset(**{**vars(stripes), "validation": None})
    history = train(network(), Objective(), whole, training, augment, execution, seed=0)
    assert set(history.rows[0]) == FIELDS - {"validation_error_pct", "validation_loss"}


ADAMW = {"kind": "adamw", "lr": 0.01, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.05}


@pytest.mark.parametrize(
    ("epoch", "batch", "recipe"),
    [
        (0, 1, {}),
        (0, None, {}),
        (1, 2, {}),
        (2, None, {}),
        (1, 2, {"optimizer": ADAMW, "clip_norm": 0.5, "label_smoothing": 0.1}),
        (1, 2, {"ema": 0.9, "augment": {"mixup": 0.4, "cutmix": 1.0, "cutout": 3}}),
    ],
)
def test_a_killed_run_ends_bit_identical_to_one_that_was_not(
    tmp_path: Path,
    stripes: Dataset,
    training: Training,
    augment: Augment,
    execution: Execution,
    epoch: int,
    batch: int | None,
    recipe: dict[str, Any],
) -> None:
    recipe = dict(recipe)
    augment = augment.model_copy(update=recipe.pop("augment", {}))
    training = Training.model_validate({**training.model_dump(exclude_none=True), **recipe})
    labels = label_loss(training, ())
    whole = network()
    expected = train(whole, Objective(labels), stripes, training, augment, execution, seed=3)
    checkpoints = Checkpoints(tmp_path, "these settings")

    def attempt(observer: Observer) -> tuple[nn.Module, list[HistoryRow], int]:
        fresh = network(seed=99)  # the weights must come from the checkpoint, or from the same seed
        if not list(tmp_path.iterdir()):
            fresh = network()
        done = train(
            fresh, Objective(labels), stripes, training, augment, execution,
            seed=3, checkpoints=checkpoints, observer=observer,
        )  # fmt: skip
        return fresh, done.rows, done.resumed

    with pytest.raises(Killed):
        attempt(KilledAt(epoch, batch))
    torch.rand(7)  # whatever else the next process draws
    told = Recorder()
    resumed, rows, count = attempt(told)
    assert same(resumed, whole)
    assert rows == expected.rows
    assert count == (epoch > 0)
    assert told.before + told.rows == expected.rows


def test_gradients_are_clipped_all_together(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    """One step of plain descent moves the weights by the learning rate times the norm, where that is too large."""
    plain = {"kind": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False}
    section = {**training.model_dump(exclude_none=True), "epochs": 1, "batch_size": 40, "optimizer": plain}

    def moved(**clip: float) -> torch.Tensor:
        trained, recipe = network(), Training.model_validate({**section, **clip})
        (row,) = train(trained, Objective(), stripes, recipe, augment, execution, seed=0).rows
        pairs = zip(trained.parameters(), network().parameters(), strict=True)
        return torch.cat([(new - old).flatten() for new, old in pairs]).detach() / (row["lr"] or 0)

    free = moved()
    assert torch.equal(moved(clip_norm=1e6), free)
    assert free.norm() > 0.1
    clipped = moved(clip_norm=0.1)
    assert clipped.norm().item() == pytest.approx(0.1, rel=1e-3)
    torch.testing.assert_close(clipped, free * 0.1 / free.norm(), rtol=1e-2, atol=1e-5)


def test_batches_do_not_depend_on_what_is_trained(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    def seen_by(trained: nn.Module, extra: int) -> list[Tensor]:
        seen = []

        class Looks(Objective):
            def forward(self, network: nn.Module, batch: Batch) -> tuple[Tensor | None, Terms]:
                torch.rand(extra)
                seen.append(batch.images.clone())
                return super().forward(network, batch)

        train(trained, Looks(), stripes, training, augment, execution, seed=5)
        return seen

    torch.manual_seed(1)
    wide = build("wrn-10-2", num_classes=2, in_channels=1)
    first, second = seen_by(network(), 1), seen_by(wide, 9)
    assert len(first) == len(second) == 9
    assert all(torch.equal(left, right) for left, right in zip(first, second, strict=True))


def test_mixed_images_count_for_both_labels(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    """Of a network that always answers 0, an epoch's error is the share of label 1, as that of its loss."""

    class Zero(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([50.0, -50.0]))

        def forward(self, images: Tensor) -> Tensor:
            return self.bias.expand(len(images), 2)

    seen: list[Batch] = []

    class Looks(Objective):
        def forward(self, network: nn.Module, batch: Batch) -> tuple[Tensor | None, Terms]:
            seen.append(batch)
            return super().forward(network, batch)

    once = training.model_copy(update={"epochs": 1, "batch_size": 16})
    augment = augment.model_copy(update={"mixup": 1.0})
    (row,) = train(Zero(), Looks(), stripes, once, augment, execution, seed=0).rows
    expected = 0.0
    for batch in seen:
        assert batch.mixed is not None
        assert len(batch.mixed.labels) == len(batch.labels) == len(batch.images)
        own, other = batch.labels.sum().item(), batch.mixed.labels.sum().item()
        expected += (1 - batch.mixed.share) * own + batch.mixed.share * other
    assert row["train_error_pct"] == pytest.approx(100 * expected / 40, rel=1e-5)
    assert row["ce"] == pytest.approx(
        100 * expected / 40, rel=0.05
    )  # 100 for a wrong answer, and the bias moves a bit


@pytest.mark.parametrize("columns", [("ce", "at", "at"), ("ce", "loss")])
def test_two_columns_of_one_name_are_refused(
    columns: tuple[str, ...], stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    class Twice(Objective):
        @property
        def columns(self) -> tuple[str, ...]:
            return columns

    with pytest.raises(MoonshineError, match=naming(columns[-1], *OWN_COLUMNS)):
        train(network(), Twice(), stripes, training, augment, execution, seed=0)


def test_divergence_is_a_result(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    optimizer = training.optimizer.model_copy(update={"lr": 1e30})
    wild = training.model_copy(update={"optimizer": optimizer})
    history = train(network(), Objective(), stripes, wild, augment, execution, seed=0)
    assert history.status == "diverged"
    assert len(history.rows) < training.epochs or not torch.tensor(history.rows[-1]["loss"]).isfinite()


class Breaks(nn.Module):
    """Its loss is finite, and its last gradient is not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.linear(images.flatten(1))
        if self.training:
            logits.register_hook(lambda gradient: gradient * float("inf"))
        return logits


@pytest.mark.parametrize("validated", [True, False])
def test_the_last_step_diverges_too(
    validated: bool, stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    once = training.model_copy(update={"epochs": 1, "batch_size": len(stripes.train)})
    dataset = stripes if validated else replace(stripes, validation=None)
    history = train(Breaks(), Objective(), dataset, once, augment, execution, seed=0)
    assert torch.tensor(history.rows[-1]["loss"]).isfinite()
    assert (history.status, len(history.rows)) == ("diverged", 1)


def test_finite_weights_whose_logits_are_not_have_diverged(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    class Overflows(Breaks):
        def forward(self, images: Tensor) -> Tensor:
            logits = self.linear(images.flatten(1))
            return logits if self.training else logits * float("inf")

    trained = Overflows()
    history = train(trained, Objective(), stripes, training, augment, execution, seed=0)
    assert all(weights.isfinite().all() for weights in trained.parameters())
    assert (history.status, len(history.rows)) == ("diverged", training.epochs)


def test_weight_decay_acts_on_every_parameter(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    def weights(decay: float) -> dict[str, Tensor]:
        optimizer = training.optimizer.model_copy(update={"weight_decay": decay})
        recipe = training.model_copy(update={"epochs": 1, "optimizer": optimizer})
        trained = network()
        train(trained, Objective(), stripes, recipe, augment, execution, seed=0)
        return {name: value.detach().clone() for name, value in trained.named_parameters()}

    without, decayed = weights(0.0), weights(0.1)
    assert [name for name in without if torch.equal(without[name], decayed[name])] == []


def test_evaluation_leaves_the_network_as_it_was(stripes: Dataset, execution: Execution) -> None:
    judged = network()
    before = copy.deepcopy(judged)
    first = evaluate(judged, stripes.test, stripes, execution)
    assert first == evaluate(judged, stripes.test, stripes, execution)
    assert same(judged, before)
    assert first["examples"] == 20
    indices = [int(index) for index in first["wrong"].split()]
    assert 100 * len(indices) / 20 == first["error_pct"]
    assert isinstance(stripes.test, Split)
    images = (stripes.test.images / 255 - 0.4) / 0.2
    assert indices == (judged.eval()(images).argmax(1) != stripes.test.labels).nonzero().flatten().tolist()


def test_top5_is_stated_where_there_are_fifty_classes(stripes: Dataset, execution: Execution) -> None:
    class Guesses(nn.Module):
        """Always the same ranking."""

        def forward(self, images: Tensor) -> Tensor:
            return torch.arange(60.0).flip(0).roll(-55).expand(len(images), 60)

    many = replace(stripes, num_classes=60)
    found = evaluate(Guesses(), many.test, many, execution)
    first_five = Guesses()(torch.zeros(1)).topk(5).indices[0].tolist()
    labels = many.test.labels.tolist()
    assert found["top5_error_pct"] == 100 * sum(label not in first_five for label in labels) / len(labels)
    assert "top5_error_pct" not in evaluate(network(), stripes.test, stripes, execution)
