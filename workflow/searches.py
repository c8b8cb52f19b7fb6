"""The section of a report on mixed students: what the search chose, and what the plain baselines would have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Any

from moonshine.budgets import show
from moonshine.files import read_json
from workflow import nodes
from workflow.markup import Fragment, folded, html_table, number, plural
from workflow.results import Results


def searches(results: Results) -> Fragment:
    """A part per mixed student: its budget, its block at every place; nothing where no student is mixed."""
    parts = []
    for row in results.rows:
        path = results.root / nodes.structure(results.study, row.model.student).outputs[0]
        structure = read_json(path) if path.is_file() else {}
        if structure.get("search"):
            parts.append(_search(results.labels[row.model.student], structure))
    return Fragment("<h2>Mixed students</h2>" + "".join(parts) if parts else "")


def _search(label: str, structure: Mapping[str, Any]) -> str:
    search, settings = structure["search"], structure["search"]["settings"]
    budget = settings["budget"]
    budget = budget if isinstance(budget, str) else " and ".join(budget)
    kinds = Counter(structure["blocks"].values())
    made = ", ".join(f"{count} × {escape(block)}" for block, count in sorted(kinds.items()))
    places = folded(
        "Block by block",
        html_table(
            ["Place", "Block"],
            [[escape(path), escape(block)] for path, block in structure["blocks"].items()],
            2,
        ),
    )
    return f"<h3>{escape(label)}</h3><p>Budget {escape(budget)}: {made}.</p>{_found(search)}{places}"


def _found(search: Mapping[str, Any]) -> str:
    """What was drawn, and each score's favourite beside the chosen one."""
    window = search["window"]
    drawn = (
        f"{plural(search['candidates'], 'candidate')} drawn from 10^{search['log10_networks']:.1f} networks"
    )
    if window:
        drawn += f" of {show(search['measure'], window[0])} to {show(search['measure'], window[1])}"
    drawn += " (widened: the window asked for was empty)" if search["widened"] else ""
    agreement = ", ".join(
        f"{rho:.2f} with {measure}" for measure, rho in search["spearman"].items() if rho is not None
    )
    if agreement:
        drawn += f"; rank correlation of Fisher potential {agreement}"
    rows = [
        [
            f"most by {escape(score)}"
            + (" (chosen)" if winner["blocks"] == search["chosen"]["blocks"] else ""),
            number(winner["parameters"]),
            number(winner["macs"], 1e6, 1),
            f"{winner['fisher']:.4g}",
        ]
        for score, winner in search["winners"].items()
    ]
    return f"<p>{drawn}.</p>" + html_table(
        ["Candidate", "Parameters", "MACs (M)", "Fisher potential"], rows, 1
    )
