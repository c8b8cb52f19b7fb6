"""Progress of the search for a mixed student: in its log, and in a file for ``moonshine status``."""

from __future__ import annotations

import time

from moonshine.files import write_json
from moonshine_workflow.graph.nodes import Node
from moonshine_workflow.graph.stage import logger

LOG_EVERY_SECONDS = 10.0
"""Shortest time between two log lines about the same kind of work; its last step is always logged."""


class SearchProgress:
    """Callback of a search: ``progress("networks scored", 12, 131)``; a total of None is unknown."""

    def __init__(self, node: Node) -> None:
        self._file = node.work / "progress.json"
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._begun = time.monotonic()

    def __call__(self, what: str, done: int, expected: int | None) -> None:
        now = time.monotonic()
        started = self._started.setdefault(what, self._begun)
        self._begun = now
        pace = (now - started) / done
        write_json(
            self._file,
            {"what": what, "done": done, "expected": expected, "seconds_each": round(pace, 3)},
        )
        if done == expected or now - self._said.get(what, -LOG_EVERY_SECONDS) >= LOG_EVERY_SECONDS:
            self._said[what] = now
            of = f" of {expected}" if expected else ""
            logger.info("%d%s %s, %.1f s each", done, of, what, pace)
