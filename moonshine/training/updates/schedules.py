"""Learning-rate schedules as pure functions of the position, so that a resumed run needs no state."""

from __future__ import annotations

import math

from moonshine.config.training import OneCycle, Poly, Step, Training


def learning_rate(training: Training, epoch: int, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one optimiser step; ``epoch`` and ``step`` (within the epoch) count from 0.

    ``step``: lr * factor^n from the start of the n-th drop's epoch, exactly as in the released code.
    ``one-cycle``: linear warm-up, then a cosine over all remaining steps. ``poly``: lr * (1 - epoch/epochs)^power.
    """
    base = training.optimizer.lr
    if isinstance(training.schedule, Poly):
        return base * (1 - epoch / training.epochs) ** training.schedule.power
    if isinstance(training.schedule, Step):
        return base * training.schedule.factor ** sum(drop <= epoch for drop in training.schedule.drops)
    position = (epoch * steps_per_epoch + step) / (training.epochs * steps_per_epoch)
    return base * _one_cycle(training.schedule, position)


def _one_cycle(schedule: OneCycle, position: float) -> float:
    if position < schedule.warmup:
        return schedule.start + (1 - schedule.start) * position / schedule.warmup
    descent = (position - schedule.warmup) / (1 - schedule.warmup)
    return schedule.end + (1 - schedule.end) * (1 + math.cos(math.pi * descent)) / 2
