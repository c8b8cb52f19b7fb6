"""History of a training run, and who is told of it while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

HistoryRow = dict[str, int | float | None]
OWN_COLUMNS = ("epoch", "lr", "loss", "train_error_pct", "validation_error_pct", "validation_loss")
"""Columns of a history besides the terms of the loss."""


class Observer:
    """Callbacks of a training run; the base class does nothing."""

    def resumed(self, rows: Sequence[HistoryRow]) -> None:
        """Called when a run is resumed after ``rows``, the epochs that an earlier process trained."""

    def batch(self, done: int, total: int) -> None:
        """Called after ``done`` of an epoch's ``total`` optimiser steps."""

    def epoch(self, row: HistoryRow) -> None:
        """Called at the end of an epoch, before its checkpoint is written."""


SILENT = Observer()


@dataclass(frozen=True)
class History:
    """History of a run: one row per epoch, and whether it ``completed`` or ``diverged`` at its last row."""

    rows: list[HistoryRow] = field(default_factory=list)
    status: Literal["completed", "diverged"] = "completed"
    resumed: int = 0
