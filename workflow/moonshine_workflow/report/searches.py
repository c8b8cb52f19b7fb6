"""Report section on mixed students: the search's choice beside that of plain baselines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from moonshine.costs.budgets import show
from moonshine.files import read_json
from moonshine_workflow.graph import nodes
from moonshine_workflow.report.markup import Fragment, listed, render
from moonshine_workflow.report.results import Results


def searches(results: Results) -> Fragment:
    """A part per mixed student: its budget, its block at every place; nothing where no student is mixed."""
    found = []
    for row in results.rows:
        path = results.root / nodes.structure(results.study, row.model.student).outputs[0]
        structure = read_json(path) if path.is_file() else {}
        if structure.get("search"):
            found.append(_search(results.labels[row.model.student], structure))
    return render("searches", "searches", found)


def _search(label: str, structure: Mapping[str, Any]) -> dict[str, Any]:
    search, budget = structure["search"], structure["search"]["settings"]["budget"]
    return {
        **search,
        "label": label,
        "budget": budget if isinstance(budget, str) else listed(budget),
        "kinds": sorted(Counter(structure["blocks"].values()).items()),
        "places": list(structure["blocks"].items()),
        "window": [show(search["measure"], value) for value in search["window"] or ()],
        "spearman": {measure: rho for measure, rho in search["spearman"].items() if rho is not None},
    }
