"""Chart of error against a size that the reader chooses, for a browser; static figures where scripts are off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from moonshine.costs.budgets import MEASURES, Budget, show
from moonshine_workflow.report.figures.drawing import DARK, Style, style
from moonshine_workflow.report.figures.pareto import BUDGET, TEACHER, budgets, pareto
from moonshine_workflow.report.markup import Fragment, interval, render
from moonshine_workflow.report.results import Results
from moonshine_workflow.tables.statistics import dominated

if TYPE_CHECKING:
    from altair import LayerChart

_SHAPES = {
    "o": "circle",
    "^": "triangle-up",
    "s": "square",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "M-.7,-1L0,-.3L.7,-1L1,-.7L.3,0L1,.7L.7,1L0,.3L-.7,1L-1,.7L-.3,0L-1,-.7Z",
    "*": "M0,-1L.29,-.4L.95,-.31L.48,.15L.59,.81L0,.5L-.59,.81L-.48,.15L-.95,-.31L-.29,-.4Z",
}
"""Matplotlib's markers in Vega: names, or outlines in a square from -1 to 1."""


def pareto_chart(results: Results) -> Fragment:
    """Return test error against size: an interactive chart, and two figures that stand where scripts are off."""
    points = _points(results)
    if not points:
        return Fragment("")
    limits = budgets(results)
    measures = [measure for measure in MEASURES if any(measure in point["sizes"] for point in points)]
    measures.sort(key=lambda measure: measure not in limits)  # the budgets' first
    looks = {method: style(position) for method, position in results.looks.items()} | {"teacher": TEACHER}
    spec = chart(points, measures, looks, [*limits.values()], results.error_name).to_dict()
    figures = (pareto(results, measure) for measure in measures[:2])
    return render("sections", "pareto_chart", spec, [figure for figure in figures if figure])


def _points(results: Results) -> list[dict[str, Any]]:
    """Return a point for every network and method with an error, the most accurate first.

    ``front`` lists the measures by which it is on the front of all, ``own`` by which on that of its method. Labels
    that find no room are left out in this order; only the best point of a student has one.
    """
    points: list[dict[str, Any]] = []
    for row in results.rows:
        student = row.model.student
        sizes = results.sizes(student)
        for method, error in row.errors.items():
            if error.mean is not None and sizes:
                half_width = error.half_width or 0.0
                points.append(
                    {
                        "student": results.labels[student],
                        "method": "teacher" if student == "teacher" else method,
                        "mean": error.mean,
                        "low": error.mean - half_width,
                        "high": error.mean + half_width,
                        "error": f"{interval(error)} %",
                        "sizes": sizes,
                        "shown": {measure: show(measure, value) for measure, value in sizes.items()},
                    }
                )
    for point in points:
        same = [other for other in points if other["method"] == point["method"]]
        point["front"] = [measure for measure in point["sizes"] if not _is_dominated(point, points, measure)]
        point["own"] = [measure for measure in point["sizes"] if not _is_dominated(point, same, measure)]
    points.sort(key=lambda point: point["mean"])
    named: set[str] = set()
    for point in points:
        point["label"] = "" if point["student"] in named else point["student"]
        named.add(point["student"])
    return points


def _is_dominated(point: Mapping[str, Any], rivals: Sequence[Mapping[str, Any]], measure: str) -> bool:
    there = [rival for rival in rivals if measure in rival["sizes"]]
    out = dominated([(rival["sizes"][measure], rival["mean"]) for rival in there])
    return out[there.index(point)]


def chart(
    points: Sequence[Mapping[str, Any]],
    measures: Sequence[str],
    looks: Mapping[str, Style],
    limits: Sequence[Budget],
    error_name: str,
) -> LayerChart:
    """Return a Vega-Lite chart of ``points`` against one of the ``measures``, which the reader chooses.

    As in `moonshine_workflow.report.figures.pareto.front`, filled markers are on the front of all points and lines join
    that of each method. A click on a method in the legend dims the others. The budgets are vertical lines.
    """
    import altair as alt

    def look(values: list[Any]) -> alt.Scale:
        return alt.Scale(domain=list(looks), range=values)

    means = [point["mean"] for point in points]
    spread = (max(means) - min(means)) or 0.2 * max(*means, 1.0)
    size = alt.param(
        name="size",
        value=measures[0],
        bind=alt.binding_select(
            options=list(measures), labels=[MEASURES[name].shown for name in measures], name="Against "
        ),
    )
    chosen = alt.selection_point(name="chosen", fields=["method"], bind="legend")
    legend = alt.Legend(title=None, orient="top", symbolSize=80, symbolStrokeWidth=0)
    color = alt.Color("method:N", scale=look([each.color for each in looks.values()]), legend=legend)
    scale = alt.Scale(domain=[min(means) - 0.2 * spread, max(means) + 0.12 * spread], nice=False, zero=False)
    error = alt.Y("mean:Q", title=error_name, scale=scale)
    networks = (
        alt.Chart()
        .transform_filter("isValid(datum.sizes[size])")
        .transform_calculate(x="datum.sizes[size]", on_front="indexof(datum.front, size) >= 0")
        .encode(x=_sizes_axis(), opacity=alt.condition(chosen, alt.value(1), alt.value(0.12)))
    )
    intervals = networks.mark_rule(clip=True, strokeOpacity=0.6).encode(
        y=alt.Y("low:Q", title=error_name, scale=scale), y2="high:Q", color=color
    )
    fronts = (
        networks.transform_filter("indexof(datum.own, size) >= 0")
        .mark_line(clip=True)
        .encode(
            y=error,
            color=color,
            strokeDash=alt.StrokeDash("method:N", scale=look([_dash(each) for each in looks.values()])),
        )
    )
    tips = {name: name for name in ("student", "method", "error")}
    tips |= {f"shown.{name}": MEASURES[name].head for name in MEASURES if name in measures}
    marks = networks.mark_point(size=90, strokeWidth=1.5).encode(
        y=error,
        stroke=color,
        fill=alt.condition("datum.on_front", color, alt.value("white")),
        shape=alt.Shape(
            "method:N", scale=look([_SHAPES[each.marker] for each in looks.values()]), legend=legend
        ),
        tooltip=[
            alt.Tooltip(field=field, type="nominal", title=f"{title}:") for field, title in tips.items()
        ],
    )
    values = [{"measure": each.measure, "x": each.limit, "text": f"the budget, {each}"} for each in limits]
    lines = (
        alt.Chart(alt.Data(values=values))
        .transform_filter("datum.measure == size")
        .mark_rule(color=BUDGET, strokeDash=[5, 3], strokeWidth=2)
        .encode(x=_sizes_axis(), tooltip="text:N")
    )
    return (
        alt.layer(intervals, fronts, marks, lines, data=alt.Data(values=list(points)))
        .add_params(size, chosen)
        .properties(width="container", height=420, autosize=alt.AutoSizeParams(type="fit-x"))
        .configure(font="system-ui, sans-serif")
        .configure_axis(labelFontSize=12, titleFontSize=13, titleFontWeight="normal", labelColor=DARK)
        .configure_legend(labelFontSize=13, labelColor=DARK)
        .configure_view(stroke=None)
    )


def _sizes_axis() -> Any:
    import altair as alt

    return alt.X(
        "x:Q",
        title=None,  # what is chosen below the chart
        scale=alt.Scale(type="log", nice=False, padding=30),
        axis=alt.Axis(format="~s", grid=False, labelOverlap="greedy"),
    )


def _dash(look: Style) -> list[float]:
    return [1, 0] if isinstance(look.line, str) else list(look.line[1])
