"""Sizes of exported files: what a graph stores dense is told apart from what it was generated from."""

from __future__ import annotations

import numpy as np
import pytest

from moonshine.costs.budgets import parse_budget
from moonshine.search.exported_sizes import with_exported_sizes
from moonshine.search.place_costs import SpaceCosts, place_costs
from moonshine.search.space import Mixture, Space
from moonshine.structures.build import residual_blocks, to_structure

BLOCKS = ("S", "G(4)", "FIRE(4)", "SHUF(4,2)", "TT(4)")


def space() -> Space:
    return Space(
        to_structure("wrn-10-1", "S", 10, 3),
        dict.fromkeys(residual_blocks("wrn-10-1"), BLOCKS),
        {},
        (3, 8, 8),
    )


def dense(known: SpaceCosts, blocks: Mixture) -> int:
    """Bytes of a file that stores every weight, 50 for each tensor, and 1000 around them."""
    costs = [known.rest, *(row[blocks[path]] for path, row in known.table.items())]
    return 1000 + sum(4 * (cost.parameters + cost.folded) + 50 * cost.tensors for cost in costs)


def test_generated_weights_are_dense_in_a_graph() -> None:
    known = place_costs(space())
    for row in known.table.values():
        assert {block for block, cost in row.items() if cost.folded} == {"TT(4)"}
        assert row["TT(4)"].parameters + row["TT(4)"].folded == row["S"].parameters
    exported: list[Mixture] = []

    def export(blocks: Mixture, measure: str) -> int:
        exported.append(blocks)
        return dense(known, blocks)

    budget = parse_budget("100kB onnx")
    estimated = with_exported_sizes(known, [budget], export, np.random.default_rng(0))
    assert len(exported) <= 9
    for block in BLOCKS:
        uniform = dict.fromkeys(known.table, block)
        assert estimated.of(budget.measure, uniform) == pytest.approx(dense(known, uniform), rel=1e-6)
