"""Reading of a node's progress file, without importing torch, which takes seconds."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from moonshine import MoonshineError
from moonshine.files import read_json


def read_progress(path: Path) -> dict[str, Any]:
    """Return what a node last wrote about its progress; empty if the file is missing or damaged."""
    with suppress(MoonshineError):
        found = read_json(path)
        seconds_at = found.get("seconds_at", {})
        numbers = [found.get(key, 0) for key in ("epoch", "epochs", "done")]
        numbers += [found.get(key) or 0 for key in ("epoch_seconds", "expected", "seconds_each")]
        if (
            isinstance(seconds_at, dict)
            and all(epoch.isdecimal() for epoch in seconds_at)
            and all(type(number) in (int, float) for number in (*numbers, *seconds_at.values()))
        ):
            return found
    return {}
