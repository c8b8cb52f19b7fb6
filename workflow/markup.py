"""Pieces of HTML and text that the reports are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workflow.records import Difference, MethodError

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Fragment:
    """A piece of HTML that a notebook shows as it is."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int) -> str:
    """A table in a box of its own that scrolls sideways.

    Cells are HTML: those of the first ``text_columns`` are text, the others numbers.
    """

    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = ["text" if position < text_columns else "number" for position in range(len(row))]
        return "".join(f'<{tag} class="{kind}">{cell}</{tag}>' for kind, cell in zip(kinds, row, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{cells('th', header)}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def folded(summary: str, html: str) -> str:
    """HTML behind a line to tap on."""
    return f"<details><summary>{summary}</summary>{html}</details>"


def number(value: float | None, unit: float = 1, digits: int = 0) -> str:
    """A number in a unit with thousands separated; a dash for none."""
    return "–" if value is None else f"{value / unit:,.{digits}f}"


def signed(value: float) -> str:
    """Two decimals with a sign and a true minus."""
    return f"{value:+.2f}".replace("-", MINUS)


def plural(count: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def error_cell(error: MethodError | None) -> str:
    """A mean with its interval, and how many seeds there are where they are not all that were planned."""
    if error is None:
        return ""
    if error.mean is None:
        return f"–<br><small>0 of {plural(error.seeds, 'seed')}</small>"
    interval = "" if error.half_width is None else f" ± {error.half_width:.2f}"
    short = f"<br><small>{error.n} of {error.seeds} seeds</small>" if error.n < error.seeds else ""
    return f"{error.mean:.2f}{interval}{short}"


def effect_text(effect: Difference) -> str:
    """A difference with its interval: ``−0.84 ± 0.28``."""
    if effect.mean is None:
        return "–"
    interval = "" if effect.half_width is None else f" ± {effect.half_width:.2f}"
    return signed(effect.mean) + interval
