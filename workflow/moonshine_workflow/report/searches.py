"""Report section on mixed students: the search's choice beside that of plain baselines."""

from __future__ import annotations

from collections import Counter
from typing import Any

from moonshine.costs.budgets import show
from moonshine.structures.structure import SearchRecord, StudyStructure
from moonshine_workflow.graph import nodes
from moonshine_workflow.report.markup import Fragment, listed, render
from moonshine_workflow.report.results import Results


def searches(results: Results) -> Fragment:
    """Mixed students with their budget and their block at every place; empty where there is none."""
    found = []
    for row in results.rows:
        path = results.root / nodes.structure(results.study, row.model.student).outputs[0]
        structure = StudyStructure.read(path) if path.is_file() else None
        if structure and structure.search:
            found.append(_search(results.labels[row.model.student], structure.blocks, structure.search))
    return render("searches", "searches", found)


def _search(label: str, blocks: dict[str, str], search: SearchRecord) -> dict[str, Any]:
    budget = search.settings["budget"]
    return {
        "label": label,
        "record": search,
        "budget": budget if isinstance(budget, str) else listed(budget),
        "kinds": sorted(Counter(blocks.values()).items()),
        "places": list(blocks.items()),
        "left_out": [(path, *each) for path, reasons in search.left_out.items() for each in reasons.items()],
        "window": [show(search.measure, value) for value in search.window or () if search.measure],
        "spearman": {measure: rho for measure, rho in search.spearman.items() if rho is not None},
    }
