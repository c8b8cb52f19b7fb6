"""Rendering of the report's templates, and the formatting of numbers and lists in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from moonshine_workflow.tables.rows import Difference, MethodError
from moonshine_workflow.tables.statistics import Estimate

MINUS = "\N{MINUS SIGN}"


class Shown(Protocol):
    """Part of a report: HTML in which every name is escaped."""

    @property
    def html(self) -> str: ...


@dataclass(frozen=True)
class Fragment:
    """HTML that a notebook shows as it is."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def number(value: float | None, digits: int = 0, unit: float = 1) -> str:
    """Format a number in a unit with thousands separated; a dash for None."""
    return "–" if value is None else f"{value / unit:,.{digits}f}"


def signed(value: float, digits: int = 2) -> str:
    """Format a number with its sign and a true minus."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def interval(
    found: Estimate | MethodError | Difference | None, digits: int = 2, *, sign: bool = False
) -> str:
    """Format a mean with the half-width of its interval, such as ``1.90 ± 0.53``; a dash for None."""
    if found is None or found.mean is None:
        return "–"
    half_width = "" if found.half_width is None else f" ± {found.half_width:.{digits}f}"
    return (signed(found.mean, digits) if sign else f"{found.mean:.{digits}f}") + half_width


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: ``1 seed``, ``3 seeds``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(names: Iterable[object]) -> str:
    """Join names as ``a, b and c``."""
    *first, last = map(str, names)
    return f"{', '.join(first)} and {last}" if first else last


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {form.__name__: form for form in (interval, listed, number, plural, signed)}


def render(template: str, section: str, *values: Any, **named: Any) -> Fragment:
    """Render a section: call the macro of this name in ``templates/<template>.html.jinja`` with its values.

    Text in the values is escaped. Lines are joined, so that the layout of a template leaves no trace.
    """
    macro = getattr(TEMPLATES.get_template(f"{template}.html.jinja").module, section)
    return Fragment(re.sub(r"\s*\n\s*", " ", macro(*values, **named)).strip())


def columns(*parts: Shown | None) -> Fragment:
    """Put fragments and figures side by side where the page is wide enough; those that show nothing are left out."""
    return render("shared", "columns", [part for part in parts if part is not None and part.html])
