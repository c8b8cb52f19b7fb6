"""Tables and durations as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tabulate import tabulate


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Return columns aligned with spaces, never cut or wrapped: text on the left, then numbers on the right."""
    align = ["left"] * text_columns + ["right"] * (len(header) - text_columns)
    # as a row: tabulate would pad a header
    table = tabulate([header, *rows], tablefmt="plain", disable_numparse=True, colalign=align)
    return "\n".join(line.rstrip() for line in table.splitlines())


def duration(seconds: float) -> str:
    """Return ``45 s``, ``12 min`` or ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60:,} h {minutes % 60:02d} min"
