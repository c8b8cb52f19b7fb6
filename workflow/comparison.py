"""The words, tables and figures of a comparison between studies."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from workflow.drawing import Picture, style
from workflow.effect_figures import Line, forest
from workflow.figures import SIZES, front, series_of
from workflow.markup import MINUS, Fragment, error_cell, html_table, listed, number
from workflow.records import StudentRow
from workflow.results import Results, load_results


def load_all(studies: Sequence[str], root: Path | str | None = None) -> list[Results]:
    """The collected results of several studies; ``MoonshineError`` names the table that one of them lacks."""
    return [load_results(study, root) for study in studies]


def title(studies: Sequence[Results]) -> Fragment:
    """The heading."""
    return Fragment(f"<h1>moonshine: {escape(listed([results.study for results in studies]))}</h1>")


def overview(studies: Sequence[Results]) -> Fragment:
    """A row per study: data, teacher and its error, how many students and seeds, and what ships, with its error."""
    rows = []
    for results in studies:
        teacher = results.rows[0]
        seeds = {run.seed for run in results.runs if run.student != "teacher"}
        rows.append(
            [
                escape(results.study),
                escape(str(results.dataset["name"])),
                escape(teacher.model.network or "–"),
                number(results.dataset["counts"]["test"]),
                error_cell(teacher.only_error),
                str(len(results.rows) - 1),
                str(len(seeds)),
                _ships(results),
            ]
        )
    header = ["Study", "Data", "Teacher", "Test images", "Teacher’s error (%)", "Students", "Seeds", "Ships"]
    return Fragment(html_table(header, rows, 3))


def _ships(results: Results) -> str:
    """The student that ships, and the test error of the file that its budget counts."""
    shipped = results.shipped
    if shipped is None or shipped.chosen is None:
        return "–"
    name = escape(results.labels.get(shipped.chosen.student, shipped.chosen.student))
    files = [
        f"{escape(receipt['file'])} {receipt['error_pct']:.2f} %"
        for receipt in results.receipts["receipts"]
        if receipt["file"] in shipped.counted
    ]
    return f"{name} {escape(shipped.chosen.method)}<br><small>{', '.join(files)}</small>"


def heading(method: str) -> Fragment:
    """The heading above the figures of one method."""
    return Fragment(f"<h3>{escape(method)}</h3>")


def common_methods(studies: Sequence[Results]) -> list[str]:
    """The methods, scratch among them, that all studies have."""
    return [method for method in studies[0].methods if all(method in other.methods for other in studies)]


def _identity(row: StudentRow) -> tuple[str | None, str | None]:
    return row.model.network, row.model.block


def common_students(studies: Sequence[Results]) -> Fragment:
    """The students (a network with a block) that at least two studies have: errors side by side."""
    tables = [{_identity(row): row for row in results.rows[1:]} for results in studies]
    shared = list(
        dict.fromkeys(
            identity
            for table in tables
            for identity in table
            if sum(identity in other for other in tables) > 1
        )
    )
    if not shared:
        return Fragment("<p>No student is in two of these studies.</p>")
    methods = common_methods(studies)
    header = ["Network", "Block"]
    header += [f"{escape(results.study)}<br>{escape(m)} (%)" for m in methods for results in studies]
    rows = []
    for identity in shared:
        found = [table.get(identity) for table in tables]
        cells = [error_cell(row.errors.get(method)) if row else "" for method in methods for row in found]
        rows.append([escape(identity[0] or "–"), escape(identity[1] or "–"), *cells])
    return Fragment(html_table(header, rows, 2))


def fronts(studies: Sequence[Results], method: str, cost: str) -> Picture | None:
    """Error by one method against ``cost`` (``parameters`` or ``macs``), with the front of each study."""
    series = [
        series_of(results, method, cost, style(position), results.study)
        for position, results in enumerate(studies)
    ]
    return front(series, SIZES[cost], together=False)


def effects(studies: Sequence[Results]) -> Picture | None:
    """What each method adds to scratch, pooled over students, in each study that has it."""
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
