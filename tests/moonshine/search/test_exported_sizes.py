"""Sizes of exported files: what a graph stores dense is told apart from what it was generated from."""

from __future__ import annotations

import numpy as np
import pytest

from moonshine.costs.budgets import parse_budget
from moonshine.search.exported_sizes import with_exported_sizes
from moonshine.search.limits import Impossible
from moonshine.search.place_costs import SpaceCosts, place_costs
from moonshine.search.sampling import sample
from moonshine.search.space import Mixture, Space
from moonshine.structures.build import residual_blocks, to_structure
from tests.messages import naming

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


def arena(known: SpaceCosts, blocks: Mixture) -> int:
    """RAM of a file: a quarter of the peak, and data of the interpreter for every tensor."""
    tensors = sum(row[blocks[path]].tensors for path, row in known.table.items())
    return round(known.of("peak", blocks) / 4) + 100 * tensors


def test_ram_is_estimated_from_the_lowest_and_the_highest_peak() -> None:
    known = place_costs(space())
    exported: list[Mixture] = []

    def export(blocks: Mixture, measure: str) -> int:
        assert measure == "ram"
        exported.append(blocks)
        return arena(known, blocks)

    estimated = with_exported_sizes(known, [parse_budget("1MB ram")], export, np.random.default_rng(0))
    assert len(exported) == 2
    for blocks in exported:
        assert arena(known, blocks) <= estimated.of("ram", blocks) < 1.5 * arena(known, blocks)


def test_ram_that_no_network_is_within_names_what_holds_it_up() -> None:
    known = place_costs(space())
    least = arena(known, known.extreme("peak"))
    budget = parse_budget(f"{least - 1}B ram")
    with pytest.raises(Impossible, match=naming(f"{least - 1}B ram", "while other layers run", "stage1.0")):
        with_exported_sizes(known, [budget], lambda blocks, _: arena(known, blocks), np.random.default_rng(0))
    just = parse_budget(f"{least}B ram")
    estimated = with_exported_sizes(
        known, [just], lambda blocks, _: arena(known, blocks), np.random.default_rng(0)
    )
    assert sample(estimated, [just], 3, np.random.default_rng(0)).networks
