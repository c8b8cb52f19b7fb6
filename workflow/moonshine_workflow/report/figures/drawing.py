"""Shared drawing code of the figures: size, greyscale-safe styles, PNG bytes, labels that do not overlap."""

from __future__ import annotations

import io
import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from moonshine_workflow.report.markup import render

# A phone shows about 4 inches of CSS pixels: at this width the text below keeps most of its size there.
WIDTH = 4.8
DPI = 200
GREY = "#808080"
DARK = "#202020"
RC: dict[str, Any] = {
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Style:
    """Look of a method: colours differ in lightness, and marker and line tell methods apart without colour."""

    color: str
    marker: str
    line: Any


STYLES = (
    Style("#D99A1C", "o", (0, (1, 1.4))),
    Style("#2F7F8C", "^", (0, (5, 2))),
    Style("#1C2A6B", "s", "-"),
    Style("#8C2F5B", "D", (0, (6, 1.5, 1, 1.5))),
    Style("#6B8F3A", "v", (0, (3, 1, 1, 1, 1, 1))),
    Style("#7A5C3E", "P", (0, (8, 3))),
    Style("#3F3F3F", "X", (0, (2, 2))),
)


def style(position: int) -> Style:
    """Return the style of the method at a position; they repeat after seven."""
    return STYLES[position % len(STYLES)]


@dataclass(frozen=True)
class PngFigure:
    """A figure as PNG bytes; a notebook shows it with ``alt`` as its alternative text."""

    png: bytes
    alt: str

    @property
    def base64(self) -> str:
        return b64encode(self.png).decode()

    @property
    def html(self) -> str:
        return render("shared", "image", self).html

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        data = {"image/png": self.base64, "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


def new_figure(height: float, *, width: float = WIDTH, constrained: bool = True) -> Figure:
    """Return an empty figure; ``width``, by default the common one, and ``height`` in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure, alt: str) -> PngFigure:
    """Render to PNG; the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return PngFigure(stream.getvalue(), alt)


_DARK_STYLE = (
    "<style>@media (prefers-color-scheme: dark) { svg { filter: invert(1) hue-rotate(180deg) } }</style>"
)


def to_svg(figure: Figure, alt: str) -> str:
    """Render to SVG with no background, light on dark where the reader's scheme is dark; ``alt`` is its title."""
    stream = io.StringIO()
    with rc_context({"svg.hashsalt": "moonshine"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Title": alt})
    head, svg, rest = stream.getvalue().partition("<metadata>")
    return f"{head}{_DARK_STYLE}\n {svg}{rest}"


styled = rc_context(RC)  # type: ignore[arg-type]


def handle(name: str, look: Style) -> Line2D:
    """Return a legend's entry for a style."""
    size = 10 if look.marker == "*" else 6
    return Line2D(
        [], [], color=look.color, marker=look.marker, linestyle=look.line, label=name, markersize=size
    )


def legend_above(figure: Figure, handles: Sequence[Any]) -> None:
    """Draw one legend for the whole figure, above it and read row by row."""
    columns = len(handles) if len(handles) <= 4 else 3
    rows = -(-len(handles) // columns)
    by_column = [
        handles[row * columns + column]
        for column in range(columns)
        for row in range(rows)
        if row * columns + column < len(handles)
    ]
    figure.legend(
        handles=by_column,
        loc="outside upper left" if figure.get_layout_engine() else "upper left",
        ncols=columns,
        columnspacing=1.0,
        handletextpad=0.5,
        handlelength=2.6,
        borderaxespad=0,
    )


def place_labels(
    figure: Figure,
    axes: Axes,
    anchors: Sequence[tuple[float, float, str]],
    marks: Sequence[tuple[float, float]],
    lines: Sequence[Sequence[tuple[float, float]]],
) -> None:
    """Write each label near its anchor, off other labels and, where possible, off marks and lines.

    Greedy, from the lowest anchor up: of many places around the anchor the cheapest is taken; a thin line leads back
    from a distant one. Call it when limits and scales are final; coordinates are those of the data.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    point, frame, to_pixels = figure.dpi / 72, axes.get_window_extent(), axes.transData.transform
    heavy = to_pixels(np.array(marks))
    light = np.concatenate(
        [np.linspace(*ends, 20) for line in lines for ends in pairwise(to_pixels(np.array(line)))]
    )
    taken: list[Bbox] = []
    for x, y, label in sorted(anchors, key=lambda anchor: (anchor[1], anchor[0])):
        text = axes.annotate(
            label,
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=9,
            color=DARK,
            ha="center",
            va="center",
            zorder=6,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0},
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
        half = (Text.get_window_extent(text).size + np.array([3, 0.5]) * point) / 2
        cheapest, away = float("inf"), 0.0
        for distance, direction in _AROUND:
            if 0.6 * distance >= cheapest:
                break
            middle = to_pixels((x, y)) + direction * (point * distance + half)
            box = Bbox([middle - half, middle + half])
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            price = 0.6 * distance + 1000 * (not inside) + 400 * box.count_overlaps(taken)
            price += 30 * _count_inside(heavy, box.padded(2.5 * point)) + 6 * _count_inside(light, box)
            if price < cheapest:
                cheapest, away, best = price, distance, box
        text.set_position((best.min + half - to_pixels((x, y))) / point)
        if text.arrow_patch and away <= 12:
            text.arrow_patch.set_visible(False)
        taken.append(best)


_AROUND = [
    (distance, np.array([math.cos(angle), math.sin(angle)]))
    for distance in (7.0, 10.0, 14.0, 19.0, 25.0, 32.0, 40.0, 50.0, 62.0, 76.0, 92.0, 110.0)
    for angle in np.radians(np.arange(-90, 270, 15))
]
"""Places for a label around its anchor, the nearest first: points away, and in which direction."""


def _count_inside(points: np.ndarray, box: Bbox) -> int:
    return int(np.all((points > box.min) & (points < box.max), axis=1).sum())
