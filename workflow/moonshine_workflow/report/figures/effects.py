"""Figures of the effect of distillation, and of published errors beside this study's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from moonshine_workflow.report.figures.drawing import (
    DARK,
    GREY,
    PngFigure,
    Style,
    legend_above,
    new_figure,
    style,
    styled,
    to_png,
)
from moonshine_workflow.report.markup import MINUS, interval
from moonshine_workflow.report.results import Results
from moonshine_workflow.tables.rows import Difference, StudentRow

BAND = "#dddddd"


@dataclass(frozen=True)
class Line:
    """A row of a forest plot; ``apart`` sets it off from the rows above."""

    label: str
    effect: Difference
    look: Style
    apart: bool = False


@styled
def forest(lines: Sequence[Line], x_label: str) -> PngFigure | None:
    """Draw differences as mean and 95 % interval, one below the other; None without lines.

    The grey bar of a row is the test set's own 95 % interval around zero. A filled marker is a difference
    outside both together, a hollow one is inconclusive. A cross is the published difference. Intervals far wider than
    the rest are cut. A comparison without a pair of runs has no line.
    """
    lines = [line for line in lines if line.effect.mean is not None]
    if not lines:
        return None
    effects = [line.effect for line in lines]
    means = [effect.mean for effect in effects if effect.mean is not None]
    shifts = [*means, *(effect.published for effect in effects if effect.published is not None)]
    figure = new_figure(0.27 * len(lines) + 1.5)
    axes = figure.add_subplot()
    reach = max(map(abs, shifts))
    ends = max(abs(mean) + (effect.half_width or 0) for mean, effect in zip(means, effects, strict=True))
    limit = 1.08 * max(min(ends, 2.2 * reach), reach, *(effect.test_margin or 0 for effect in effects), 0.05)
    ticks: list[float] = []
    for position, line in enumerate(lines):
        y = -position - 0.5 * sum(one.apart for one in lines[: position + 1])
        _draw_effect(axes, line, y)
        ticks.append(y)
        if line.apart:
            axes.axhline(y + 0.75, color=GREY, linewidth=0.6)
    labels, numbers = [line.label for line in lines], [interval(effect, sign=True) for effect in effects]
    axes.axvline(0, color=DARK, linewidth=0.8)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(min(ticks) - 0.7, 0.7)
    axes.set_yticks(ticks, labels)
    right = axes.secondary_yaxis("right")
    right.set_yticks(ticks, numbers)
    for side in (axes, right):
        side.tick_params(axis="y", length=0)
        side.spines[["left", "right"]].set_visible(False)
    axes.set_xlabel(x_label)
    look = lines[0].look
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=look.color, marker=look.marker, label="difference"),
        Line2D([], [], color=look.color, marker=look.marker, markerfacecolor="white", label="inconclusive"),
        Patch(color=BAND, label="test set"),
    ]
    if any(effect.published is not None for effect in effects):
        handles.append(Line2D([], [], color=DARK, marker="x", linestyle="", label="published"))
    legend_above(figure, handles)
    said = "; ".join(f"{label} {number}" for label, number in zip(labels, numbers, strict=True))
    return to_png(figure, f"{' '.join(x_label.split())}: {said}.")


def _draw_effect(axes: Axes, line: Line, y: float) -> None:
    effect, color = line.effect, line.look.color
    assert effect.mean is not None
    pooled = effect.scope == "pooled"
    if (margin := effect.test_margin) is not None:
        axes.barh(y, 2 * margin, left=-margin, height=0.62, color=BAND, zorder=1)
    axes.errorbar(
        effect.mean,
        y,
        xerr=effect.half_width,
        fmt="D" if pooled else line.look.marker,
        color=color,
        markerfacecolor="white" if effect.verdict == "inconclusive" else color,
        markersize=6.5 if pooled else 5.5,
        elinewidth=1.8 if pooled else 1.2,
        zorder=3,
    )
    if effect.published is not None:
        axes.plot(effect.published, y, "x", color=DARK, markersize=5.5, zorder=4)


def effects(results: Results, method: str, baseline: str = "scratch") -> PngFigure | None:
    """Draw ``method`` minus ``baseline`` per student, largest first, and pooled; None when there is no pair."""
    found = [
        effect for effect in results.differences if (effect.method, effect.baseline) == (method, baseline)
    ]
    order = {row.model.student: position for position, row in enumerate(results.rows)}
    found.sort(key=lambda effect: (effect.scope == "pooled", order.get(effect.student, -1)))
    look = style(results.looks[method])
    lines = [
        Line(f"pooled ({effect.students})", effect, look, apart=True)
        if effect.scope == "pooled"
        else Line(results.labels[effect.student], effect, look)
        for effect in found
    ]
    error = "100 − mIoU" if results.is_dense else "test error"
    sides = f"← {method} better        {baseline} better →"
    return forest(lines, f"{method} {MINUS} {baseline}, {error} (points)\n{sides}")


@styled
def published(results: Results) -> PngFigure | None:
    """Draw the study's errors beside the published ones per student; None where none is published."""
    rows = [row for row in results.rows if any(error.published is not None for error in row.errors.values())]
    if not rows:
        return None
    methods = [
        method
        for method in results.methods
        if any(row.errors[method].published is not None for row in rows if method in row.errors)
    ]
    looks = {method: style(results.looks[method]) for method in methods}
    figure = new_figure(0.11 * len(rows) * (len(methods) + 1) + 1.3)
    axes = figure.add_subplot()
    shown: list[float] = []
    for position, row in enumerate(rows):
        shown += _draw_published(axes, row, -position, looks)
        if position % 2:
            axes.axhspan(-position - 0.5, -position + 0.5, color="#f3f3f3", zorder=0)
    margin = 0.12 * (max(shown) - min(shown) or 1)
    axes.set_xlim(min(shown) - margin, max(shown) + margin)
    axes.set_ylim(-len(rows) + 0.5, 0.5)
    axes.set_yticks(
        [-position for position in range(len(rows))], [results.labels[row.model.student] for row in rows]
    )
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Test error (%)")
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle="", label=f"{method}, ours")
        for method, look in looks.items()
    ]
    handles.append(Line2D([], [], color=DARK, marker="x", linestyle="", label="published"))
    legend_above(figure, handles)
    return to_png(figure, f"Published test errors beside ours for {len(rows)} networks.")


def _draw_published(axes: Axes, row: StudentRow, middle: float, looks: dict[str, Style]) -> list[float]:
    """Draw the methods of one student below each other around ``middle``; return the errors drawn."""
    drawn: list[float] = []
    for offset, (method, look) in enumerate(looks.items()):
        error = row.errors.get(method)
        if error is None or error.published is None:
            continue
        y = middle - (offset - (len(looks) - 1) / 2) * 0.8 / len(looks)
        if error.mean is not None:
            axes.plot([error.mean, error.published], [y, y], color="#bbbbbb", linewidth=0.8, zorder=1)
            bar = {"xerr": error.half_width, "elinewidth": 0.9}
            axes.errorbar(error.mean, y, fmt=look.marker, color=look.color, markersize=4.5, **bar)  # type: ignore[arg-type]
            drawn.append(error.mean)
        axes.plot(error.published, y, "x", color=look.color, markersize=5, zorder=3)
        drawn.append(error.published)
    return drawn
