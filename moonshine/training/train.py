"""Training loop, for teachers, training from scratch and every distillation method."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from moonshine.blocks.decay import decay_factors
from moonshine.config.augment import Augment
from moonshine.config.training import Training
from moonshine.data.store import Dataset
from moonshine.errors import MoonshineError
from moonshine.training.checkpoint import Checkpoints
from moonshine.training.epoch import EpochContext, input_shape, train_epoch
from moonshine.training.evaluation import evaluate
from moonshine.training.execution import Execution
from moonshine.training.history import OWN_COLUMNS, SILENT, History, HistoryRow, Observer
from moonshine.training.objective import Objective, Together
from moonshine.training.processes import SINGLE_PROCESS, Processes
from moonshine.training.random_states import restore_states, states
from moonshine.training.updates.averaging import Average
from moonshine.training.updates.optimizer import make_optimizer
from moonshine.training.updates.phases import Phases

logger = logging.getLogger(__name__)


def train(
    network: nn.Module,
    objective: Objective,
    dataset: Dataset,
    training: Training,
    augment: Augment,
    execution: Execution,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    observer: Observer = SILENT,
    processes: Processes = SINGLE_PROCESS,
    phases: Phases | None = None,
) -> History:
    """Train ``network`` in place on ``objective`` for ``training.epochs`` epochs and return its history.

    ``phases`` may follow ordinary training. The objective's own parameters are trained too. With ``training.ema`` the
    network is evaluated, and ends, with the moving average of its weights. Batches depend on ``(seed, epoch)`` only.
    With ``checkpoints``, an interrupted run resumes after its last finished epoch and ends bit-identical to an
    uninterrupted one, given the same number of ``processes``. If the loss or a weight is no longer finite, even in the
    very last step, the run ends with status ``diverged``. Every process calls this with its own copy of the network;
    only the first one writes checkpoints and calls the ``observer``.
    Raises MoonshineError if the last batch of an epoch has fewer images than there are processes, if two terms share a
    name, and as `Checkpoints.load` does.
    """
    _check_columns(objective.columns)
    if processes.count > 1:
        _check_last_batch(len(dataset.train), training.batch_size, processes.count)
    wanted, execution = execution, execution.suiting(network, input_shape(dataset, augment))
    if execution.channels_last != wanted.channels_last:
        logger.warning(
            "%s runs in torch's default memory layout only, not in channels_last", type(network).__name__
        )
    if execution.dtype != wanted.dtype:
        logger.warning(
            "%s trains in fp32: a convolution's stride or dilation is too large for its input in bf16 on a CPU",
            type(network).__name__,
        )
    execution.place(objective)
    phases = phases or Phases(training)
    trained = Together(network, objective)
    new_optimizer = partial(
        make_optimizer, list(trained.parameters()), training.optimizer, decay_factors(network)
    )
    optimizer = new_optimizer()
    average = Average(network, training.ema) if training.ema else None
    rows: list[HistoryRow] = []
    resumed = 0
    found = checkpoints.load(execution.device) if checkpoints else None
    if found:
        state = found[1]
        network.load_state_dict(state["network"])
        objective.load_state_dict(state["objective"])
        optimizer.load_state_dict(state["optimizer"])
        phases.load_state_dict(state.get("phases", {}))
        if average:
            average.load(state["average"])
        rows, resumed = state["rows"], state["resumed"] + 1
        restore_states(state["rng"], execution.device, seed, processes, len(rows))
        observer.resumed(rows)
    else:
        # dropout must differ between the shards of a batch
        torch.manual_seed(seed + processes.rank)
    compiled: Any = torch.compile(network) if execution.compile else network
    together = processes.wrap(Together(compiled, objective), execution, not objective.has_phases)
    run = EpochContext(
        together,
        objective.columns,
        optimizer,
        average,
        phases,
        dataset,
        training,
        augment,
        execution,
        seed,
        observer,
        processes,
    )
    split = dataset.train.to(execution.device)
    for epoch in range(len(rows), phases.epochs):
        if phases.begin(epoch):
            optimizer.load_state_dict(new_optimizer().state_dict())
        row = train_epoch(run, split, epoch)
        if dataset.validation is not None:
            with average.applied() if average else nullcontext():
                figures = processes.broadcast(
                    evaluate(network, dataset.validation, dataset, execution) if processes.is_first else None
                )
            row |= {"validation_error_pct": figures["error_pct"], "validation_loss": figures["loss"]}
        rows.append(row)
        if not math.isfinite(row["loss"] or 0.0) or not _weights_are_finite(network):
            return History(rows, "diverged", resumed)
        observer.epoch(row)
        if checkpoints:
            rng = processes.all_gather(states(execution.device))
            if processes.is_first:
                checkpoints.save(
                    epoch,
                    {
                        "network": network.state_dict(),
                        "objective": objective.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "phases": phases.state_dict(),
                        **({"average": average.state()} if average else {}),
                        "rows": rows,
                        "resumed": resumed,
                        "rng": rng,
                    },
                )
    if average:
        average.apply()
    # an epoch's loss is computed before each step, so the last step shows in the validation loss only
    last = rows[-1].get("validation_loss") or 0.0
    return History(rows, "completed" if math.isfinite(last) else "diverged", resumed)


@torch.no_grad()
def _weights_are_finite(network: nn.Module) -> bool:
    return bool(torch.stack([weights.isfinite().all() for weights in network.parameters()]).all())


def _check_columns(terms: Sequence[str]) -> None:
    taken = set(OWN_COLUMNS)
    for name in terms:
        if name in taken:
            raise MoonshineError(
                f"objective: found a second column {name!r}; allowed: terms with distinct names, other than "
                + ", ".join(OWN_COLUMNS)
            )
        taken.add(name)


def _check_last_batch(count: int, batch_size: int, processes: int) -> None:
    last = count % batch_size or min(count, batch_size)
    if last < processes:
        raise MoonshineError(
            f"training.devices: found {processes}; the last batch of an epoch has {last} of the {count} images; "
            f"allowed: 1 to {last}, or another training.batch_size"
        )
