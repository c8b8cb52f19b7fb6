"""Text and tables of the report, generated from a study's results."""

from __future__ import annotations

from moonshine.costs.budgets import cost_increase
from moonshine_workflow.report.figures.drawing import PngFigure
from moonshine_workflow.report.markup import Fragment, render
from moonshine_workflow.report.provenance import recipes
from moonshine_workflow.report.results import Results
from moonshine_workflow.tables.rows import Difference, look_alikes


def title(results: Results) -> Fragment:
    """The heading: what was studied, on what."""
    return render("sections", "title", results)


def effect_sentence(results: Results, effect: Difference) -> str:
    """Return one pooled comparison in words, which claim a difference only where the verdict does."""
    return render("sections", "effect_sentence", results, effect).html


def answer(results: Results) -> Fragment:
    """The report's first words: whether attention transfer (or the first method) beats scratch here."""
    pooled = [effect for effect in results.differences if effect.scope == "pooled"]
    shown = [effect for effect in pooled if effect is pooled[0] or effect.baseline == "scratch"]
    by_verdict: dict[str, list[str]] = {"better": [], "worse": [], "inconclusive": []}
    for effect in results.differences if shown else ():
        told = "student", shown[0].method, shown[0].baseline
        if (effect.scope, effect.method, effect.baseline) == told:
            by_verdict[effect.verdict].append(results.labels[effect.student])
    return render("sections", "answer", results, shown, by_verdict)


def notices(results: Results) -> Fragment:
    """Notices at the top: a partial report, a subset, several recipes, diverged runs, costly students, re-stamps."""
    teacher = results.labels.get("teacher", "teacher")
    groups = [[each for each in networks if each != teacher] for networks in recipes(results).values()]
    return render("sections", "notices", results, _dearer(results), list(filter(None, groups)))


def _dearer(results: Results) -> dict[str, str]:
    """Return, for each student with more parameters or MACs than its teacher, how many more."""
    costs = {
        row.model.student: {"parameters": row.model.parameters, "macs": row.model.macs}
        for row in results.rows
        if row.model.parameters and row.model.macs
    }
    teacher = costs.pop("teacher", None)
    found = {name: cost_increase(cost, teacher) for name, cost in costs.items()} if teacher else {}
    return {results.labels[name]: more for name, more in found.items() if more}


def main_table(results: Results) -> Fragment:
    """Main table: network, block, sizes, and the error of each method as mean and interval."""
    errors = [f"{column} (%)" for column in results.columns]
    header = ["Network", "Block", "Parameters", "MACs (M)", "Compression", *errors, "Test SE"]
    return render("sections", "main_table", results, look_alikes(results.rows), header)


def effects_table(results: Results) -> Fragment:
    """Table of every comparison, pooled over students, and per student in a folded part."""
    return render("sections", "effects_table", results)


def training(figure: PngFigure | None) -> Fragment:
    """Section on training, with its curves; empty where no student has been trained yet."""
    return render("sections", "training", figure)


def published_title(results: Results) -> Fragment:
    """Heading of the published errors, with their source and the students that have none."""
    if results.published_file is None:
        return Fragment("")
    missing = results.unpublished.items()
    unpublished = [f"{results.labels[student]} ({', '.join(methods)})" for student, methods in missing]
    return render("sections", "published_title", results, unpublished)


def published_table(results: Results) -> Fragment:
    """Table of published errors beside the study's."""
    rows = [
        (results.labels[row.model.student], method, error)
        for row in results.rows
        for method, error in row.errors.items()
        if error.published is not None
    ]
    return render("sections", "published_table", rows)
