"""Sizes of exported files as a cost of blocks: estimated between files that were really exported.

An exported file is a graph with its weights: nearly, not exactly, a fixed part and so many bytes for each parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from moonshine.budgets import Budget, show
from moonshine.errors import MoonshineError
from moonshine.search.additive import column
from moonshine.search.place_costs import Costs

Blocks = Mapping[str, str]
Export = Callable[[Blocks], int]
"""Really exports the untrained network with these blocks; returns the bytes of the file."""


def with_exported(known: Costs, measure: str, measured: Sequence[tuple[Blocks, int]]) -> Costs:
    """``known`` with an estimate of ``measure``: a straight line in the parameters through the files in ``measured``.

    Needs two networks that differ in parameters. A network's size lies off the line by what its graph has more or
    less: what is chosen by the estimate is to be exported, and its file looked at.
    """
    parameters = np.array([known.parameters(blocks) for blocks, _ in measured], dtype=float)
    sizes = np.array([size for _, size in measured], dtype=float)
    slope, offset = np.polyfit(parameters, sizes, 1)
    table = {
        path: {block: float(slope) * share.parameters for block, share in shares.items()}
        for path, shares in known.table.items()
    }
    return known.with_estimate(measure, float(offset + slope * known.rest.parameters), table)


def ends(known: Costs) -> tuple[dict[str, str], dict[str, str]]:
    """The networks with the fewest and with the most parameters."""
    sums = column(known, "parameters")
    return sums.extreme(min), sums.extreme(max)


def measured_ends(known: Costs, export: Export) -> list[tuple[Blocks, int]]:
    """Both of them, with the bytes of their files."""
    return [(blocks, export(blocks)) for blocks in ends(known)]


def check_possible(budget: Budget, measured: Sequence[tuple[Blocks, int]]) -> None:
    """MoonshineError where even the smallest exported file is over the budget."""
    least = min(size for _, size in measured)
    if not budget.allows(least):
        raise MoonshineError(
            f"budget {budget}: the smallest network's file has {show(budget.measure, least)}; allowed: from "
            f"{show(budget.measure, least)}"
        )
