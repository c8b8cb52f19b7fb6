"""Report section on what to ship: the student that fits the budget, its cost, and its files."""

from __future__ import annotations

from functools import partial

from moonshine.costs.budgets import parse_budget, show
from moonshine_workflow.report.markup import Fragment, interval, listed, render
from moonshine_workflow.report.results import Results
from moonshine_workflow.tables.choice import Candidate, ShippingChoice
from moonshine_workflow.tables.shipped import warnings
from moonshine_workflow.tables.statistics import Estimate


def what_to_ship(results: Results) -> Fragment:
    """The student to ship with its error and its files; or why there is none, and which comes nearest."""
    choice, shipped = results.choice, results.shipped
    if choice.status == "not asked":
        return Fragment("")
    if choice.status != "ranked" or shipped is None or not shipped.answers(choice):
        shipped = None
    chosen = shipped.chosen if shipped else None
    ranked = {(each.student, each.method): each for each in choice.ranked}
    candidate = ranked[chosen.student, chosen.method] if chosen else None
    row = next((row for row in results.rows if candidate and row.model.student == candidate.student), None)
    return render(
        "answers",
        "what_to_ship",
        results,
        status=shipped.status if shipped else choice.status,
        shipped=shipped,
        candidate=candidate,
        error=row.errors.get(candidate.method) if row and candidate else None,
        warnings=warnings(shipped, candidate) if shipped and candidate else [],
        name=partial(_name, results),
        sizes=partial(_sizes, choice),
        candidates=_candidates(results),
    )


def _name(results: Results, student: str, method: str) -> str:
    how = "from scratch" if method == "scratch" else f"with {method}"
    return f"{results.labels.get(student, student)} trained {how}"


def _sizes(choice: ShippingChoice, candidate: Candidate) -> str:
    shown = [
        f"{show(budget.measure, candidate.sizes[budget.measure])} of {budget}"
        for budget in map(parse_budget, choice.budgets)
        if budget.measure in candidate.sizes
    ]
    return f"It takes {listed(shown)}" if shown else "What it takes was not measured"


def _candidates(results: Results) -> list[list[str]]:
    """Rows of all candidates, sorted by validation error; the test set has no part in the choice."""

    def cells(each: Candidate) -> list[str]:
        total = each.seeds + each.diverged
        error = Estimate(each.seeds, each.validation_pct, each.validation_half_width)
        return [
            results.labels.get(each.student, each.student),
            each.method,
            interval(error) + ("" if error.mean is None else " %"),
            f"{each.seeds} of {total}" if each.diverged else str(total),
            "; ".join(show(measure, value) for measure, value in each.sizes.items()),
            "yes" if each.fits else "no",
        ]

    def rank(each: Candidate) -> tuple[bool, bool, float]:
        return each.diverged > 0, each.validation_pct is None, each.validation_pct or 0

    return [cells(each) for each in sorted(results.choice.candidates, key=rank)]
