"""Progress of a node that trains: on the terminal, in its log, and in files for ``moonshine status`` and MLflow."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from moonshine.files import write_json
from moonshine.training.history import HistoryRow, Observer
from moonshine_workflow.graph.metrics import RunIdentity
from moonshine_workflow.graph.nodes import RUNNING, Node
from moonshine_workflow.graph.stage import logger
from moonshine_workflow.graph.work_progress import has_terminal
from moonshine_workflow.tracking.runs import RunningNode
from moonshine_workflow.training.progress_file import read_progress


class Progress(Observer):
    """Observer that shows a bar per epoch if the node has a terminal to itself, and a line per epoch otherwise."""

    def __init__(self, node: Node, epochs: int, identity: RunIdentity, config: Mapping[str, Any]) -> None:
        self._file, self._shown = node.work / "progress.json", node.work / RUNNING
        self._epochs = epochs
        self._node = RunningNode(identity=identity, config=dict(config), started=time.time(), rows=())
        self._bars = has_terminal()
        self._bar: Any = None
        self._done = 0
        self._before = 0.0
        self._seconds_at = read_progress(self._file).get("seconds_at", {})
        self._started = self._epoch_started = time.monotonic()
        self._durations: list[float] = []
        self._write()

    @property
    def seconds(self) -> float:
        """Return the training time so far, including interrupted attempts up to their last finished epoch."""
        return self._before + time.monotonic() - self._started

    @property
    def epoch_seconds(self) -> float | None:
        """Return the median duration of an epoch in this process, None before the first has ended."""
        return round(statistics.median(self._durations), 4) if self._durations else None

    def resumed(self, rows: Sequence[HistoryRow]) -> None:
        self._done = len(rows)
        self._before = self._seconds_at.get(str(self._done), 0.0)
        logger.info("continues after epoch %d of %d", self._done, self._epochs)
        self._show(rows)
        self._write()

    def batch(self, done: int, total: int) -> None:
        if not self._bars:
            return
        if self._bar is None:
            self._bar = tqdm(
                total=total, desc=f"epoch {self._done + 1}/{self._epochs}", unit="batch", leave=False
            )
        self._bar.update(done - self._bar.n)

    def epoch(self, row: HistoryRow) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        now = time.monotonic()
        self._durations.append(now - self._epoch_started)
        self._epoch_started = now
        self._done += 1
        logger.info("epoch %d/%d: %s", self._done, self._epochs, _line(row))
        self._show([row])
        self._write()

    def _show(self, rows: Sequence[HistoryRow]) -> None:
        """Add rows, without values that JSON cannot hold, to the file that MLflow's follower reads."""
        finite = [{name: value for name, value in row.items() if _is_finite(value)} for row in rows]
        self._node = self._node.model_copy(update={"rows": (*self._node.rows, *finite)})
        self._node.write(self._shown)

    def _write(self) -> None:
        self._seconds_at[str(self._done)] = round(self.seconds, 3)
        write_json(
            self._file,
            {
                "epoch": self._done,
                "epochs": self._epochs,
                "epoch_seconds": self.epoch_seconds,
                "seconds_at": self._seconds_at,
            },
        )


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _line(row: HistoryRow) -> str:
    shown = {name: value for name, value in row.items() if name != "epoch" and value is not None}
    return ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
