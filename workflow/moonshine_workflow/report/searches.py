"""Report section on mixed students: their blocks, and a search's choice beside that of plain baselines."""

from __future__ import annotations

from collections import Counter
from typing import Any

from moonshine.costs.budgets import show
from moonshine.structures.structure import MIXED, SearchRecord, StudyStructure
from moonshine_workflow.graph import nodes
from moonshine_workflow.report.markup import Fragment, listed, render
from moonshine_workflow.report.results import Results


def searches(results: Results) -> Fragment:
    """Students with a block of their own at every place, and the searches for them; empty where there is none."""
    found = []
    for row in results.rows:
        path = results.root / nodes.structure(results.study, row.model.student).outputs[0]
        structure = StudyStructure.read(path) if path.is_file() else None
        if structure and (structure.search or structure.block == MIXED):
            found.append(
                {
                    "label": results.labels[row.model.student],
                    "kinds": sorted(Counter(structure.blocks.values()).items()),
                    "places": list(structure.blocks.items()),
                    "search": structure.search and _search(structure.search),
                }
            )
    return render("searches", "searches", found)


def _search(search: SearchRecord) -> dict[str, Any]:
    budget = search.settings["budget"]
    return {
        "record": search,
        "budget": budget if isinstance(budget, str) else listed(budget),
        "left_out": [(path, *each) for path, reasons in search.left_out.items() for each in reasons.items()],
        "window": [show(search.measure, value) for value in search.window or () if search.measure],
        "spearman": {measure: rho for measure, rho in search.spearman.items() if rho is not None},
    }
