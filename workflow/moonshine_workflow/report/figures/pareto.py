"""Figures of error against size, with their Pareto fronts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from moonshine.costs.budgets import MEASURES, Budget, parse_budget
from moonshine_workflow.report.figures.drawing import (
    DARK,
    GREY,
    WIDTH,
    PngFigure,
    Style,
    handle,
    legend_above,
    new_figure,
    place_labels,
    style,
    styled,
    to_png,
)
from moonshine_workflow.report.results import Results
from moonshine_workflow.tables.statistics import dominated

BUDGET = "#b45309"
TEACHER = Style(DARK, "*", "")
_MAX_LABELS = 40
"""With more networks than this on the usual area, only those on the front are named: more names would cover points."""
_WIDE = 5
"""Errors that differ by a larger factor than this get a log scale."""


@dataclass(frozen=True)
class Point:
    """A network in a figure of error against size; no half-width for a single seed."""

    label: str
    size: float
    error: float
    half_width: float | None


@dataclass(frozen=True)
class Series:
    """Points that share a look: those of one method, or of one study."""

    name: str
    look: Style
    points: list[Point]


def series_of(results: Results, method: str, cost: str, look: Style, name: str | None = None) -> Series:
    """Return the students' errors by one method (or the ``teacher``'s) against ``cost``, a measure of budgets."""
    points = []
    for row in results.rows:
        size = results.sizes(row.model.student).get(cost)
        error = row.only_error if method == "teacher" else row.errors.get(method)
        if (
            (row.model.student == "teacher") == (method == "teacher")
            and size
            and error
            and error.mean is not None
        ):
            points.append(Point(results.labels[row.model.student], size, error.mean, error.half_width))
    return Series(name or method, look, points)


def short_number(value: float) -> str:
    """Format a number for axes: 1200000 as 1.2M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def _axes(
    figure: Figure, points: Sequence[Point], size_name: str, error_name: str, limit: float | None
) -> Axes:
    """Return axes with a log scale of sizes; errors span the means, as an interval of two seeds can dwarf the front."""
    sizes, errors = [point.size for point in points], [point.error for point in points]
    if limit is not None:
        sizes.append(limit)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    margin = (max(sizes) / min(sizes)) ** 0.08 * 1.08
    axes.set_xlim(min(sizes) / margin, max(sizes) * margin)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(sizes) < 200 * min(sizes) else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{size_name[0].upper()}{size_name[1:]} (log scale)")
    if limit is not None:
        axes.axvline(limit, color=BUDGET, linestyle=(0, (5, 3)), linewidth=1.3, zorder=1)
    if max(errors) > _WIDE * min(errors) > 0:
        axes.set_yscale("log")
        span = max(errors) / min(errors)
        axes.set_ylim(min(errors) / span**0.22, max(errors) * span**0.12)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        spread = (max(errors) - min(errors)) or 0.2 * max(*errors, 1.0)
        axes.set_ylim(min(errors) - 0.22 * spread, max(errors) + 0.12 * spread)
    axes.set_ylabel(error_name)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    return axes


@styled
def draw_front(
    series: Sequence[Series],
    cost: str,
    *,
    together: bool,
    error_name: str = "Test error (%)",
    budget: Budget | None = None,
    shape: tuple[float, float] | None = None,
) -> tuple[Figure, str] | None:
    """Draw error against ``cost``, with the front of each series as a line; return the figure and what it says.

    A filled marker is on the front, a hollow one is dominated: another point is no larger and no worse, and
    better in one. The front is that of all points ``together``, or else of each series. Bars are intervals
    over seeds, and the vertical line is the budget. Of too many networks only those on the front are named.
    ``shape`` is width and height in inches. None when there is no point yet.
    """
    everything = [point for one in series for point in one.points]
    if not everything:
        return None
    crowded = len({point.label for point in everything}) > 10
    width, height = shape or (WIDTH, 5.6 if crowded else 4.6)
    figure = new_figure(height, width=width)
    size_name = MEASURES[cost].shown
    axes = _axes(figure, everything, size_name, error_name, budget.limit if budget else None)
    handles, lines, best, on_front = [], [], [], []
    for position, one in enumerate(series):
        own = _dominated(one.points, one.points)
        # Sideways by a hair, so that the bars of one student stand beside each other.
        nudge = 1 + 0.012 * (position - (len(series) - 1) / 2)
        kept = sorted(
            (point.size * nudge, point.error) for point, out in zip(one.points, own, strict=True) if not out
        )
        if kept:
            lines.append(kept)
            axes.plot(
                *zip(*kept, strict=True),
                color=one.look.color,
                linestyle=one.look.line,
                linewidth=1.3,
                zorder=2,
            )
        for point, out in zip(
            one.points, _dominated(one.points, everything if together else one.points), strict=True
        ):
            _mark(axes, point, one.look, nudge, hollow=out)
            bottom, top = axes.get_ylim()
            reach = min(point.half_width or 0.0, top)
            low, high = max(point.error - reach, bottom), point.error + reach
            lines.append([(point.size * nudge, low), (point.size * nudge, high)])
            if not out:
                best.append(f"{point.label} {one.name} {point.error:.2f} %")
                on_front.append(point)
        handles.append(handle(one.name, one.look))
    handles.append(
        Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="", label="dominated")
    )
    if budget:
        line = {"color": BUDGET, "linestyle": (0, (5, 3))}
        handles.append(Line2D([], [], label=f"budget, {budget}", **line))  # type: ignore[arg-type]
    legend_above(figure, handles)
    lowest: dict[tuple[str, float], Point] = {}
    for point in sorted(everything, key=lambda point: -point.error):
        lowest[point.label, point.size] = point
    room = _MAX_LABELS * width * height / (WIDTH * 5.6)
    named = lowest.values() if len(lowest) <= room else on_front
    anchors = [(point.size, point.error, point.label) for point in named]
    place_labels(figure, axes, anchors, [(point.size, point.error) for point in everything], lines)
    return figure, f"{error_name} against {size_name}. On the front: {', '.join(best)}."


def _dominated(points: Sequence[Point], rivals: Sequence[Point]) -> list[bool]:
    out = dict(zip(rivals, dominated([(rival.size, rival.error) for rival in rivals]), strict=True))
    return [out[point] for point in points]


def _mark(axes: Axes, point: Point, look: Style, nudge: float, *, hollow: bool) -> None:
    axes.errorbar(
        point.size * nudge,
        point.error,
        yerr=point.half_width,
        fmt=look.marker,
        color=look.color,
        markerfacecolor="white" if hollow else look.color,
        markersize=11 if look.marker == "*" else 5.5,
        elinewidth=0.7 if hollow else 1.1,
        zorder=3 if hollow else 4,
    )


def front(series: Sequence[Series], cost: str) -> PngFigure | None:
    """Draw error against ``cost``, a measure of budgets, with a front for each series."""
    drawn = draw_front(series, cost, together=False)
    return to_png(*drawn) if drawn else None


def budgets(results: Results) -> dict[str, Budget]:
    """Return the budgets of a study's choice by their measure."""
    return {budget.measure: budget for budget in map(parse_budget, results.choice.budgets)}


def draw_study(
    results: Results, cost: str, shape: tuple[float, float] | None = None
) -> tuple[Figure, str] | None:
    """Draw the test error of every student and method against ``cost`` as `draw_front` does, with the front of all."""
    series = [series_of(results, method, cost, style(position)) for method, position in results.looks.items()]
    teacher = series_of(results, "teacher", cost, TEACHER)
    return draw_front(
        [*series, teacher],
        cost,
        together=True,
        error_name=results.error_name,
        budget=budgets(results).get(cost),
        shape=shape,
    )


def pareto(results: Results, cost: str) -> PngFigure | None:
    """Draw the test error of every student and method against ``cost``, a measure of budgets, for the report."""
    drawn = draw_study(results, cost)
    return to_png(*drawn) if drawn else None
