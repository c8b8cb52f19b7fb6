"""Progress of a node that does not train: on the terminal, in its log, and in a file for ``moonshine status``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from moonshine.files import write_json
from moonshine_workflow.graph.nodes import Node
from moonshine_workflow.graph.stage import logger, node_lock

EVERY_SECONDS = 10.0
"""Shortest time between two log lines about the same kind of work; its last step is always logged."""
LEAST_SECONDS = 0.2
"""Shortest time between two writes of the file."""


@contextmanager
def reporting(node: Node) -> Iterator[WorkProgress]:
    """Yield the progress of a node, which ``moonshine status`` shows as running within the context."""
    with node_lock(node):
        progress = WorkProgress(node)
        try:
            yield progress
        finally:
            progress.close()


def has_terminal() -> bool:
    """Whether this process has a terminal to itself: Snakemake runs several nodes on one."""
    return sys.stderr.isatty() and os.environ.get("MOONSHINE_ENGINE") != "snakemake"


class WorkProgress:
    """Callback of long work: ``progress("networks scored", 12, 131)``; a total of None is unknown.

    It shows a bar if the node has a terminal to itself, and a line every `EVERY_SECONDS` otherwise.
    """

    def __init__(self, node: Node) -> None:
        self._file = node.work / "progress.json"
        self._file.unlink(missing_ok=True)
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._begun = time.monotonic()
        self._written: dict[str, float] = {}
        self._bar: Any = None

    def __call__(self, what: str, done: int, expected: int | None) -> None:
        now = time.monotonic()
        started = self._started.setdefault(what, self._begun)
        self._begun = now
        is_last = done == expected
        if has_terminal():
            self._show(what, done, expected)
        pace = (now - started) / done
        if is_last or now - self._written.get(what, -LEAST_SECONDS) >= LEAST_SECONDS:
            self._written[what] = now
            write_json(
                self._file,
                {"what": what, "done": done, "expected": expected, "seconds_each": round(pace, 3)},
            )
        if is_last or (now - self._said.get(what, -EVERY_SECONDS) >= EVERY_SECONDS and not has_terminal()):
            self._said[what] = now
            of = f" of {expected}" if expected else ""
            logger.info("%d%s %s, %s s each", done, of, what, f"{pace:.1f}" if pace > 1 else f"{pace:.2g}")

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, what: str, done: int, expected: int | None) -> None:
        if self._bar is None or self._bar.desc != f"{what}: ":
            self.close()
            self._bar = tqdm(total=expected, desc=what, leave=False)
        self._bar.update(done - self._bar.n)
        if done == expected:
            self.close()
