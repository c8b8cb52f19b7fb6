"""One epoch of training: its batches, the steps of the optimiser, and the means of loss and error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moonshine.config.augment import Augment
from moonshine.config.training import Training
from moonshine.data.batches import UNLABELLED, batch_count, batches
from moonshine.data.loader import LoadedSplit
from moonshine.data.mixing import draw_mixes
from moonshine.data.store import AnySplit, Dataset
from moonshine.training.execution import Execution
from moonshine.training.history import HistoryRow, Observer
from moonshine.training.objective import Batch
from moonshine.training.processes import Processes
from moonshine.training.updates.averaging import Average
from moonshine.training.updates.optimizer import Updates
from moonshine.training.updates.phases import Phases


def input_shape(dataset: Dataset, augment: Augment) -> tuple[int, ...]:
    """Return the shape of the images that a network trains on, (channels, height, width)."""
    channels, *size = dataset.input_shape
    return channels, *(augment.crop or size)


@dataclass(frozen=True)
class EpochContext:
    """Settings and state that all epochs share."""

    together: nn.Module
    columns: tuple[str, ...]
    optimizer: Updates
    average: Average | None
    phases: Phases
    dataset: Dataset
    training: Training
    augment: Augment
    execution: Execution
    seed: int
    observer: Observer
    processes: Processes


def train_epoch(run: EpochContext, split: AnySplit | LoadedSplit, epoch: int) -> HistoryRow:
    """Train for one epoch over ``split``; return means over its examples of the loss, its terms and the error.

    The error is computed in the same forward passes; in semantic segmentation it is the pixel error. A mixed image
    counts for each of its labels by its share.
    """
    run.together.train()
    batch_size, single = run.training.batch_size, run.processes.count == 1
    steps = batch_count(split, batch_size)
    count = 0 if single else len(run.dataset.train)
    sums: dict[str, Tensor] = {}
    # numbers of wrong and of all labels, more than fp32 can count
    tally = torch.zeros(2, dtype=torch.float64, device=run.execution.device)
    rate = 0.0
    loader = batches(
        split,
        batch_size=batch_size,
        seed=run.seed,
        epoch=epoch,
        augment=run.augment,
        mean=run.dataset.mean,
        std=run.dataset.std,
        device=run.execution.device,
        channels_last=run.execution.channels_last,
        shard=run.processes.shard,
        workers=run.execution.workers,
        with_previous=bool(run.augment.mixes),
    )
    height, width = input_shape(run.dataset, run.augment)[1:]
    mixes = draw_mixes(run.augment, steps, (height, width), run.seed, epoch)
    for step, (images, labels) in enumerate(loader):
        mixed = None
        if mixes:
            images, labels, mixed = mixes[step].of(images, labels)
        rate = run.phases.learning_rate(epoch, step, steps)
        with run.execution.autocast():
            logits, terms = run.together(Batch(images, labels, epoch, step, mixed))
        total = torch.stack(list(terms.values())).sum()
        if single:
            share = 1.0
            count += len(images)
        else:
            share = run.processes.share(len(images), min(batch_size, count - step * batch_size))
        (total * share if share != 1 else total).backward()
        run.phases.constrain_gradients()
        if run.training.clip_norm:
            nn.utils.clip_grad_norm_(run.together.parameters(), run.training.clip_norm)
        run.optimizer.step(rate)
        run.phases.constrain_weights()
        if run.average:
            run.average.update(epoch * steps + step)
        for name, value in {"loss": total, **terms}.items():
            sums[name] = sums.get(name, 0) + value.detach() * len(images)
        if logits is not None:
            known = labels != UNLABELLED
            predicted = logits.detach().argmax(1)
            wrong = ((predicted != labels) & known).sum()
            if mixed:
                wrong = (1 - mixed.share) * wrong + mixed.share * (predicted != mixed.labels).sum()
            tally += torch.stack([wrong, known.sum()])
        run.observer.batch(step + 1, steps)
    means = {name: (run.processes.all_reduce(value) / count).item() for name, value in sums.items()}
    errors, labelled = run.processes.all_reduce(tally).tolist()
    error = 100 * errors / max(labelled, 1) if logits is not None else None
    terms_or_none = {name: means.get(name) for name in ("loss", *run.columns)}
    return {"epoch": epoch, "lr": rate, **terms_or_none, "train_error_pct": error}
