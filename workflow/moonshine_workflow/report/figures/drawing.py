"""Shared drawing code of the figures: size, greyscale-safe styles, PNG bytes, labels that do not overlap."""

from __future__ import annotations

import base64
import io
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
from matplotlib.transforms import Bbox

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
    """How a method looks: colours fall in lightness, and marker and line tell it without any colour."""

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
    """The style of the method at a position; they repeat after seven."""
    return STYLES[position % len(STYLES)]


@dataclass(frozen=True)
class Picture:
    """A figure as PNG bytes; a notebook shows it with ``alt`` as its alternative text."""

    png: bytes
    alt: str

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        data = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


def new_figure(height: float, *, constrained: bool = True) -> Figure:
    """An empty figure of the common width; ``height`` in inches."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def to_picture(figure: Figure, alt: str) -> Picture:
    """Render to PNG; the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return Picture(stream.getvalue(), alt)


styled = rc_context(RC)  # type: ignore[arg-type]


def handle(name: str, look: Style) -> Line2D:
    """A legend's entry for a look."""
    size = 10 if look.marker == "*" else 6
    return Line2D(
        [], [], color=look.color, marker=look.marker, linestyle=look.line, label=name, markersize=size
    )


def legend_above(figure: Figure, handles: Sequence[Any]) -> None:
    """One legend for the whole figure, above it and read row by row."""
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

    Greedy, from the lowest anchor up: of many places around the anchor the cheapest is taken; a thin line
    leads back from a distant one. Call it when limits and scales are final; coordinates are those of the
    data.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    point = figure.dpi / 72
    frame = axes.get_window_extent()
    heavy = axes.transData.transform(np.array(marks))
    light = np.concatenate([_sampled(axes.transData.transform(np.array(line)), 3 * point) for line in lines])
    taken: list[Bbox] = []
    angles = np.radians(np.arange(-90, 270, 15))
    for x, y, label in sorted(anchors, key=lambda anchor: (anchor[1], anchor[0])):
        text = axes.text(
            0, 0, label, fontsize=9, color=DARK, transform=None, ha="center", va="center", zorder=6
        )
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
        size = text.get_window_extent(renderer)
        home = axes.transData.transform((x, y))
        best, cost = home, float("inf")
        for away in (7.0, 10.0, 14.0, 19.0, 25.0, 32.0, 40.0, 50.0, 62.0, 76.0, 92.0, 110.0):
            if 0.6 * away >= cost:
                break
            for direction in np.stack([np.cos(angles), np.sin(angles)], axis=1):
                middle = home + direction * (point * away + np.array([size.width, size.height]) / 2)
                box = _box(middle, size, point)
                outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
                price = 0.6 * away + 1000 * outside + 400 * sum(box.overlaps(other) for other in taken)
                if price < cost:
                    price += 30 * _inside(heavy, box.padded(2.5 * point)) + 6 * _inside(light, box)
                if price < cost:
                    best, cost, lead = middle, price, away > 12
        text.set_position(tuple(best))
        taken.append(_box(best, size, point))
        if lead:
            end = np.clip(home, taken[-1].min, taken[-1].max)
            back = axes.transData.inverted().transform([home, end])
            axes.plot(
                back[:, 0], back[:, 1], color=GREY, linewidth=0.6, zorder=2.5, scalex=False, scaley=False
            )


def _box(middle: np.ndarray, size: Bbox, point: float) -> Bbox:
    width, height = size.width + 3 * point, size.height + 0.5 * point
    return Bbox.from_bounds(middle[0] - width / 2, middle[1] - height / 2, width, height)


def _inside(points: np.ndarray, box: Bbox) -> int:
    return int(np.all((points > box.min) & (points < box.max), axis=1).sum())


def _sampled(line: np.ndarray, step: float) -> np.ndarray:
    """Points along a polyline, ``step`` pixels apart."""
    pieces = [line[-1:]]
    for start, end in pairwise(line):
        count = max(int(np.hypot(*(end - start)) / step), 1)
        pieces.append(start + (end - start) * (np.arange(count) / count)[:, None])
    return np.concatenate(pieces)
