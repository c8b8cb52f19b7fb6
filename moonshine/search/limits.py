"""Effect of budgets on a space: why one cannot be met, and the blocks that no network within them can have."""

from __future__ import annotations

from collections.abc import Mapping

from moonshine.costs.budgets import MAXIMA, MEASURES, Budget, show
from moonshine.errors import MoonshineError
from moonshine.search.place_costs import PlaceCost, SpaceCosts

PLACES_NAMED = 3
"""Most places that an error names as the cause of the smallest network's size."""


class Impossible(MoonshineError):
    """No network of a space is within a budget; ``costs`` are the space's, with the budget's measure in them.

    ``least`` is that measure of the smallest network.
    """

    def __init__(self, budget: Budget, costs: SpaceCosts, least: float, reason: str) -> None:
        shown = show(budget.measure, least)
        super().__init__(
            f"budget {budget}: the smallest network has {shown} ({MEASURES[budget.measure].shown}){reason}; allowed: "
            f"from {shown}. A rival, an ordinary network of the teacher's family with fewer channels or layers, may be "
            "smaller"
        )
        self.budget, self.costs, self.least = budget, costs, least


def check_reachable(costs: SpaceCosts, budget: Budget) -> None:
    """Raise `Impossible`, naming the largest places, if no network of the space is within the budget."""
    least, _ = costs.reachable(budget.measure)
    if budget.allows(least):
        return

    def text(value: float) -> str:
        return show(budget.measure, value)

    lows = {path: min(cost.of(budget.measure) for cost in row.values()) for path, row in costs.table.items()}
    top = sorted(lows, key=lambda path: -lows[path])[:PLACES_NAMED]
    where = "while other layers run" if budget.measure in MAXIMA else "in what no place changes"
    raise Impossible(
        budget,
        costs,
        least,
        f": {text(costs.rest.of(budget.measure))} {where}, and at least "
        f"{', '.join(f'{text(lows[path])} at {path}' for path in top)}",
    )


def within_maximum(costs: SpaceCosts, budget: Budget) -> SpaceCosts:
    """Return the costs without the blocks that exceed a budget on a peak at their place.

    Of the peak itself, exactly the networks within it remain: activations outside a place while its block runs do not
    depend on the other blocks. Every place must have a block within the limit, see `check_reachable`.
    """
    return costs.keeping(lambda cost, row: budget.allows(cost.of(budget.measure)))


def without_costlier(costs: SpaceCosts) -> SpaceCosts:
    """Return the costs without the blocks that cost more parameters or MACs than S at their place and save neither."""

    def is_wanted(cost: PlaceCost, row: Mapping[str, PlaceCost]) -> bool:
        if "S" not in row:
            return True
        own, ordinary = (cost.parameters, cost.macs), (row["S"].parameters, row["S"].macs)
        return own == ordinary or own[0] < ordinary[0] or own[1] < ordinary[1]

    return costs.keeping(is_wanted)
