"""Progress of long work, as callbacks are told it."""

from __future__ import annotations

from collections.abc import Callable

ReportProgress = Callable[[str, int, int | None], None]
"""Told what is done, how often it has been done, and how often it will be, where that is known."""


def silent(what: str, done: int, expected: int | None) -> None:
    """Tell nobody."""
