"""Figures of training: error by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from moonshine_workflow.report.figures.drawing import (
    PngFigure,
    handle,
    legend_above,
    new_figure,
    style,
    styled,
    to_png,
)
from moonshine_workflow.report.results import Results

# Errors in percent by (student, method), then by epoch: one value per seed.
Errors = dict[tuple[str, str], dict[int, list[float]]]
PANELS = 40
"""Most students with a panel: a figure of more is slow to draw, and taller than PNG readers take."""


def _errors(results: Results, column: str) -> Errors:
    """Return the completed students' values of a column of ``curves.csv``."""
    finished = {(run.student, run.method, str(run.seed)) for run in results.count("completed")}
    found: Errors = {}
    for row in results.curves:
        key = (row["student"], row["method"])
        value = float(row[column] or "nan")
        if row["student"] != "teacher" and (*key, row["seed"]) in finished and math.isfinite(value):
            found.setdefault(key, {}).setdefault(int(row["epoch"]), []).append(value)
    return found


@styled
def curves(results: Results) -> PngFigure | None:
    """Draw error by epoch, one panel per student: the mean over seeds, and a band from the best seed to the worst.

    The error is that of the validation split, or of the training passes where a study has none. Of more than `PANELS`
    students those with the lowest last error have one, and the figure says so. None when no student has been trained
    yet.
    """
    name, error, errors = "Validation", "error", _errors(results, "validation_error_pct")
    if not errors:
        name, errors = "Training", _errors(results, "train_error_pct")
    if results.is_dense:
        error = "pixel error" if name == "Training" else "100 − mIoU"
    last: dict[str, float] = {}
    for (student, _), epochs in errors.items():
        last[student] = min(last.get(student, math.inf), fmean(epochs[max(epochs)]))
    if not last:
        return None
    shown = set(sorted(last, key=lambda student: last[student])[:PANELS])
    students = [row.model.student for row in results.rows if row.model.student in shown]
    of_all = "" if len(shown) == len(last) else f" of {len(last)}, those of lowest error"
    lines = math.ceil(len(students) / 2)
    height = 1.6 * lines + 1.1
    # By hand: the constrained layout takes seconds for two dozen panels.
    figure = new_figure(height, constrained=False)
    grid = figure.subplots(lines, 2, sharex=True, sharey=True, squeeze=False)
    edges = {"left": 0.15, "right": 0.99, "bottom": 0.5 / height, "top": 1 - 0.62 / height}
    figure.subplots_adjust(**edges, wspace=0.07, hspace=0.28)
    values = [
        value
        for (student, _), epochs in errors.items()
        if student in shown
        for found in epochs.values()
        for value in found
    ]
    # Zero errors do happen, and a log scale needs somewhere to put them.
    floor = min((value for value in values if value > 0), default=0.1) / 1.5
    for axes, student in zip(grid.flat, students, strict=False):
        for method, position in results.looks.items():
            if (student, method) in errors:
                _draw_curve(axes, errors[student, method], position, floor)
        axes.set_title(results.labels[student], loc="left", pad=3)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    first = grid[0, 0]
    first.set_yscale("log")
    low, high = first.get_ylim()
    first.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 10 * low else MaxNLocator(5))
    first.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    first.yaxis.set_minor_formatter(NullFormatter())
    first.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    if len(students) % 2:
        grid[-1, 1].set_visible(False)
        if lines > 1:
            grid[-2, 1].tick_params(labelbottom=True)
    figure.supxlabel(
        f"Epoch ({len(students)} students{of_all})" if of_all else "Epoch",
        fontsize=10.5,
        y=0.06 / height,
        va="bottom",
    )
    figure.supylabel(f"{name} {error} (%)", fontsize=10.5, x=0.005)
    legend_above(figure, [handle(method, style(n)) for method, n in results.looks.items()])
    by = ", ".join(results.methods)
    said = f"{name} {error} by epoch for {len(students)} students{of_all}, each trained by {by}."
    return to_png(figure, said)


def _draw_curve(axes: Axes, epochs: Mapping[int, Sequence[float]], position: int, floor: float) -> None:
    look = style(position)
    x = sorted(epochs)
    values = [epochs[epoch] for epoch in x]
    low = [max(min(found), floor) for found in values]
    mean = [max(sum(found) / len(found), floor) for found in values]
    high = [max(*found, floor) for found in values]
    axes.fill_between(x, low, high, color=look.color, alpha=0.18, linewidth=0)
    every = max(len(x) // 5, 1)
    axes.plot(
        x,
        mean,
        color=look.color,
        linestyle=look.line,
        linewidth=1.3,
        marker=look.marker,
        markersize=3.5,
        markevery=(position * every // 4, every),
    )
