"""Candidates under a budget on exported files, whose sizes only an export tells: an estimate to draw them by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from moonshine.budgets import EXPORTED, Budget
from moonshine.search.additive import column
from moonshine.search.exported_sizes import check_possible, measured_ends, with_exported
from moonshine.search.place_costs import Costs
from moonshine.search.sampling import sample
from moonshine.search.space import Space

Size = Callable[[nn.Module, str], int]
"""Bytes of the file that exporting an untrained network in a format gives: ``size(network, "onnx-int8")``."""
PROBES = 3


def estimated(
    space: Space, known: Costs, budgets: Sequence[Budget], size: Size, rng: np.random.Generator
) -> Costs:
    """``known`` with an estimate of every exported size that is limited, which costs five exports of each.

    A line through the smallest and the largest network says where the limit is about; it is then moved so that the
    largest file of a few networks from there is estimated right.
    MoonshineError if even the smallest network's file is over its budget.
    """
    exported = [budget for budget in budgets if budget.measure in EXPORTED]

    def bytes_of(blocks: Mapping[str, str], measure: str) -> int:
        return size(space.build(blocks), measure)

    for budget in exported:
        measured = measured_ends(known, lambda blocks, measure=budget.measure: bytes_of(blocks, measure))  # type: ignore[misc]
        check_possible(budget, measured)
        known = with_exported(known, budget.measure, measured)
    if not exported:
        return known
    near = sample(known, budgets, PROBES, rng).networks
    for budget in exported:
        line = column(known, budget.measure)
        off = max(bytes_of(blocks, budget.measure) - line.sum(blocks) for blocks in near)
        known = known.with_estimate(budget.measure, line.rest + off, line.table)
    return known
