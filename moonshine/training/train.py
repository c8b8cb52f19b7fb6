"""The training loop, one for the teacher, for training from scratch and for every distillation method."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moonshine.checkpoint import Checkpoints
from moonshine.config import Augment, Training
from moonshine.data import Dataset, Split, batches
from moonshine.training.execution import Execution
from moonshine.training.optimizer import SGD
from moonshine.training.schedules import learning_rate

# Called with the network, a batch of images (N, C, H, W) and labels (N,): the logits, and the terms of the loss
# that add up to what is minimised.
Loss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Mapping[str, Tensor]]]
Row = dict[str, int | float | None]

EVALUATION_BATCH = 500


class Observer:
    """Told what happens while a network trains; this one listens and does nothing."""

    def resumed(self, rows: Sequence[Row]) -> None:
        """The run continues after these epochs, which an earlier process trained."""

    def batch(self, done: int, total: int) -> None:
        """``done`` of the epoch's ``total`` optimiser steps are taken."""

    def epoch(self, row: Row) -> None:
        """An epoch has ended; its checkpoint is not yet written."""


SILENT = Observer()


@dataclass(frozen=True)
class History:
    """One row per epoch, and how the run ended: ``completed``, or ``diverged`` at its last row."""

    rows: list[Row] = field(default_factory=list)
    status: str = "completed"
    resumed: int = 0


def cross_entropy(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The loss of training from scratch: cross-entropy on the labels alone."""
    logits = network(images)
    return logits, {"ce": F.cross_entropy(logits.float(), labels)}


def train(
    network: nn.Module,
    loss: Loss,
    dataset: Dataset,
    training: Training,
    augment: Augment,
    execution: Execution,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    observer: Observer = SILENT,
) -> History:
    """Train ``network`` in place for ``training.epochs`` epochs and return its history.

    Batches depend on ``(seed, epoch)`` only. With ``checkpoints``, an interrupted run continues after its last
    whole epoch and ends bit-identical to one that was not interrupted. A loss that stops being finite ends the
    run with status ``diverged``.
    """
    network = execution.place(network)
    optimizer = SGD(network.parameters(), training.optimizer)
    rows: list[Row] = []
    resumed = 0
    found = checkpoints.load(execution.device) if checkpoints else None
    if found:
        state = found[1]
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        rows, resumed = state["rows"], state["resumed"] + 1
        _restore_rng(state["rng"])
        observer.resumed(rows)
    else:
        torch.manual_seed(seed)
    forward: nn.Module = torch.compile(network) if execution.compile else network  # type: ignore[assignment]
    run = _Run(forward, loss, optimizer, dataset, training, augment, execution, seed, observer)
    split = dataset.train.to(execution.device)
    for epoch in range(len(rows), training.epochs):
        row = _train_epoch(run, split, epoch)
        if dataset.validation is not None:
            figures = evaluate(network, dataset.validation, dataset, execution)
            row |= {"validation_error_pct": figures["error_pct"], "validation_loss": figures["loss"]}
        rows.append(row)
        if not math.isfinite(row["loss"] or 0.0):
            return History(rows, "diverged", resumed)
        observer.epoch(row)
        if checkpoints:
            checkpoints.save(
                epoch,
                {
                    "network": network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "rows": rows,
                    "resumed": resumed,
                    "rng": _rng(),
                },
            )
    return History(rows, "completed", resumed)


@dataclass(frozen=True)
class _Run:
    """What stays the same from epoch to epoch."""

    network: nn.Module
    loss: Loss
    optimizer: SGD
    dataset: Dataset
    training: Training
    augment: Augment
    execution: Execution
    seed: int
    observer: Observer


def _train_epoch(run: _Run, split: Split, epoch: int) -> Row:
    """One pass over ``split``; loss terms are means over its examples, the error is of the training passes."""
    run.network.train()
    steps = math.ceil(len(split.labels) / run.training.batch_size)
    sums: dict[str, Tensor] = {}
    wrong = torch.zeros((), device=run.execution.device)
    rate = 0.0
    loader = batches(
        split,
        batch_size=run.training.batch_size,
        seed=run.seed,
        epoch=epoch,
        augment=run.augment,
        mean=run.dataset.mean,
        std=run.dataset.std,
        device=run.execution.device,
        channels_last=run.execution.channels_last,
    )
    for step, (images, labels) in enumerate(loader):
        rate = learning_rate(run.training, epoch, step, steps)
        with run.execution.autocast():
            logits, terms = run.loss(run.network, images, labels)
        total = torch.stack(list(terms.values())).sum()
        total.backward()
        run.optimizer.step(rate)
        for name, value in {"loss": total, **terms}.items():
            sums[name] = sums.get(name, 0) + value.detach() * len(labels)
        wrong += (logits.detach().argmax(1) != labels).sum()
        run.observer.batch(step + 1, steps)
    count = len(split.labels)
    means = {name: (value / count).item() for name, value in sums.items()}
    return {"epoch": epoch, "lr": rate, **means, "train_error_pct": 100 * wrong.item() / count}


@torch.no_grad()
def evaluate(network: nn.Module, split: Split, dataset: Dataset, execution: Execution) -> dict[str, Any]:
    """Top-1 error in percent and mean cross-entropy of ``network`` on a split, in eval mode.

    ``wrong`` holds the 0-based indices of the misclassified examples, in one string: two networks' difference has a
    far smaller standard error when it is known which examples they share.
    """
    network = execution.place(network).eval()
    wrong: list[Tensor] = []
    loss = 0.0
    for images, labels in batches(
        split,
        batch_size=EVALUATION_BATCH,
        seed=0,
        epoch=0,
        augment=None,
        mean=dataset.mean,
        std=dataset.std,
        device=execution.device,
        shuffle=False,
        channels_last=execution.channels_last,
    ):
        with execution.autocast():
            logits = network(images).float()
        wrong.append((logits.argmax(1) != labels).cpu())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    count = len(split.labels)
    indices = torch.cat(wrong).nonzero().flatten().tolist()
    return {
        "error_pct": 100 * len(indices) / count,
        "loss": loss / count,
        "examples": count,
        "wrong": " ".join(map(str, indices)),
    }


def _rng() -> dict[str, Any]:
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def _restore_rng(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
