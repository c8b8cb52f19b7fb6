"""Text, tables and figures of a comparison between studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moonshine_workflow.report.figures.drawing import PngFigure, style
from moonshine_workflow.report.figures.effects import Line, forest
from moonshine_workflow.report.figures.pareto import front, series_of
from moonshine_workflow.report.markup import MINUS, Fragment, render
from moonshine_workflow.report.results import Results, load_results
from moonshine_workflow.tables.rows import StudentRow


def load_all(studies: Sequence[str], root: Path | str | None = None) -> list[Results]:
    """Read the collected results of several studies; ``MoonshineError`` names a table that is missing."""
    return [load_results(study, root) for study in studies]


def comparison_title(studies: Sequence[Results]) -> Fragment:
    """Heading of the comparison."""
    return render("comparison", "title", studies)


def overview(studies: Sequence[Results]) -> Fragment:
    """Table of the studies: data, teacher and its error, number of students and seeds, and what ships."""
    return render("comparison", "overview", studies)


def heading(method: str) -> Fragment:
    """Heading above the figures of one method."""
    return render("comparison", "heading", method)


def common_methods(studies: Sequence[Results]) -> list[str]:
    """Return the methods, scratch among them, that all studies have."""
    return [method for method in studies[0].methods if all(method in other.methods for other in studies)]


def _identity(row: StudentRow) -> tuple[str | None, str | None]:
    return row.model.network, row.model.block


def common_students(studies: Sequence[Results]) -> Fragment:
    """Table of the students (network and block) that at least two studies have, with their errors side by side."""
    tables = [{_identity(row): row for row in results.rows[1:]} for results in studies]
    shared = list(
        dict.fromkeys(
            identity
            for table in tables
            for identity in table
            if sum(identity in other for other in tables) > 1
        )
    )
    methods = common_methods(studies)
    header = [
        "Network",
        "Block",
        *((results.study, f"{method} (%)") for method in methods for results in studies),
    ]
    return render("comparison", "common_students", header, shared, tables, methods)


def fronts(studies: Sequence[Results], method: str, cost: str) -> PngFigure | None:
    """Draw error by one method against ``cost``, a measure of budgets, with the front of each study."""
    series = [
        series_of(results, method, cost, style(position), results.study)
        for position, results in enumerate(studies)
    ]
    return front(series, cost)


def pooled_effects(studies: Sequence[Results]) -> PngFigure | None:
    """Draw each method minus scratch, pooled over students, for each study that has it."""
    methods = list(dict.fromkeys(method for results in studies for method in results.compared_with_scratch))
    lines: list[Line] = []
    for method in methods:
        for position, results in enumerate(studies):
            for effect in results.differences:
                if (effect.method, effect.baseline, effect.scope) == (method, "scratch", "pooled"):
                    first = bool(lines) and not any(line.effect.method == method for line in lines)
                    label = f"{method}: {results.study} ({effect.students})"
                    lines.append(Line(label, effect, style(position), apart=first))
    sides = "← method better        scratch better →"
    return forest(lines, f"method {MINUS} scratch, pooled test error (points)\n{sides}")
