"""What the store of the teacher's outputs has saved, as timings tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def saved(timings: Iterable[Mapping[str, Any]]) -> str:
    """A sentence on the batches of all distilled nodes; empty where none of them used a store."""
    found = [counts for each in timings if (counts := each.get("teacher_batches"))]
    read, computed, size = (sum(counts[name] for counts in found) for name in ("read", "computed", "bytes"))
    if not found:
        return ""
    return (
        f"The teacher ran for {computed:,} of {read + computed:,} batches of distillation; for the others its outputs "
        f"were read from disk ({size / 1e6:,.1f} MB)."
    )
