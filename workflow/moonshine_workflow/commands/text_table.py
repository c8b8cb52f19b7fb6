"""Tables printed by the ``moonshine`` commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tabulate import tabulate


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Return columns aligned with spaces, never cut or wrapped: text on the left, then numbers on the right."""
    align = ["left"] * text_columns + ["right"] * (len(header) - text_columns)
    # as a row: tabulate would pad a header
    table = tabulate([header, *rows], tablefmt="plain", disable_numparse=True, colalign=align)
    return "\n".join(line.rstrip() for line in table.splitlines())
