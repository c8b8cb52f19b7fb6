"""Costs that add up over the places of a network: the reachable range, and why a budget cannot be met."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from moonshine.costs.budgets import MEASURES, Budget, show
from moonshine.costs.file_sizes import LEAST_BYTES, MOST_PADDING
from moonshine.errors import MoonshineError
from moonshine.search.place_costs import Costs, Share

SHOWN = 3


@dataclass(frozen=True)
class Column:
    """One measure of a space's networks as a sum: of ``rest`` and of a number for the block at each place.

    A network's true value is the sum or up to ``slack`` more.
    """

    rest: float
    table: Mapping[str, Mapping[str, float]]
    slack: float = 0

    def sum(self, blocks: Mapping[str, str]) -> float:
        return self.rest + sum(row[blocks[path]] for path, row in self.table.items())

    def extreme(self, choose: Callable[..., str]) -> dict[str, str]:
        """The network of the smallest sum (``choose=min``) or the largest (``max``)."""
        return {path: choose(row, key=lambda block, row=row: row[block]) for path, row in self.table.items()}


def column(costs: Costs, measure: str) -> Column:
    """The sums of a measure: exact for parameters and MACs, lower bounds for the fp32 file, else of estimates.

    MoonshineError for a measure that is no sum over places, or that ``costs`` lack.
    """
    if measure == "fp32":
        return _file_column(costs)
    if measure not in _EXACT and measure not in costs.rest.estimates:
        found = ", ".join(("fp32", *_EXACT, *costs.rest.estimates))
        raise MoonshineError(f"costs: found no {measure}; allowed: {found}, or an estimate of it")

    def of(share: Share) -> float:
        return _EXACT[measure](share) if measure in _EXACT else share.estimates[measure]

    table = {
        path: {block: of(share) for block, share in shares.items()} for path, shares in costs.table.items()
    }
    return Column(of(costs.rest), table)


_EXACT: dict[str, Callable[[Share], float]] = {
    "parameters": lambda share: share.parameters,
    "macs": lambda share: share.macs,
}


def reachable(costs: Costs, measure: str) -> tuple[float, float]:
    """The smallest and the largest value of a measure among the networks of a space."""
    sums = _sums(costs, measure)
    return costs.of(measure, sums.extreme(min)), costs.of(measure, sums.extreme(max))


def smallest(costs: Costs, measure: str) -> dict[str, str]:
    """The network with the smallest value of a measure."""
    return _sums(costs, measure).extreme(min)


def _sums(costs: Costs, measure: str) -> Column:
    """Sums that are smallest and largest where the measure is."""
    if measure != "peak":
        return column(costs, measure)
    peaks = {
        path: {block: float(share.peak_activation_bytes) for block, share in row.items()}
        for path, row in costs.table.items()
    }
    return Column(0, peaks)


class Impossible(MoonshineError):
    """No network of a space is within a budget; ``costs`` are the space's, with the budget's measure in them."""

    def __init__(self, budget: Budget, costs: Costs, least: float, reason: str) -> None:
        shown = show(budget.measure, least)
        super().__init__(
            f"budget {budget}: the smallest network has {shown} ({MEASURES[budget.measure].shown}){reason}; allowed: "
            f"from {shown}. A rival, an ordinary network of the teacher's family with fewer channels or layers, may be "
            "smaller"
        )
        self.budget, self.costs = budget, costs


def impossible(costs: Costs, budget: Budget) -> Impossible | None:
    """The error that says which places hold up the minimum, if no network of the space is within the budget."""
    least, _ = reachable(costs, budget.measure)
    if budget.allows(least):
        return None

    def text(value: float) -> str:
        return show(budget.measure, value)

    if budget.measure == "peak":
        lows: dict[str, float] = {
            path: min(share.peak_activation_bytes for share in row.values())
            for path, row in costs.table.items()
        }
        rest = costs.rest.peak_activation_bytes
        said = f"{text(rest)} while other layers run"
    else:
        sums = column(costs, budget.measure)
        lows = {path: min(row.values()) for path, row in sums.table.items()}
        said = f"{text(sums.rest)} in what no place changes"
    top = sorted(lows, key=lambda path: -lows[path])[:SHOWN]
    reason = f": {said}, and at least {', '.join(f'{text(lows[path])} at {path}' for path in top)}"
    return Impossible(budget, costs, least, reason)


def within_peak(costs: Costs, limit: float) -> Costs:
    """These costs without the blocks that pass a peak at their place: exactly the networks that keep to it remain.

    What lives outside a place while its block runs does not depend on the other blocks. Every place must have a block
    that keeps to the limit, see `impossible`.
    """
    table = {
        path: {block: share for block, share in row.items() if share.peak_activation_bytes <= limit}
        for path, row in costs.table.items()
    }
    return Costs(costs.rest, table)


def without_dearer(costs: Costs) -> Costs:
    """These costs without the blocks that at their place save neither parameters nor MACs, but cost more of one."""

    def is_dearer(share: Share, ordinary: Share) -> bool:
        both = (share.parameters, share.macs), (ordinary.parameters, ordinary.macs)
        return both[0] != both[1] and all(ours >= theirs for ours, theirs in zip(*both, strict=True))

    table = {
        path: {
            block: share for block, share in row.items() if "S" not in row or not is_dearer(share, row["S"])
        }
        for path, row in costs.table.items()
    }
    return Costs(costs.rest, table)


def _file_column(costs: Costs) -> Column:
    low, high = _file_sums(costs, min), _file_sums(costs, max)
    spread = sum(
        max(high.table[path][b] - low.table[path][b] for b in row) for path, row in low.table.items()
    )
    return Column(low.rest, low.table, slack=high.rest - low.rest + spread + MOST_PADDING)


def _file_sums(costs: Costs, bound: Callable[..., int]) -> Column:
    """File bytes without padding, where a tensor's offset is what it is behind the least (or most) data before it.

    Only the digits of the offsets in the header depend on other places.
    """
    ranks = {row.rank for share in _every(costs) for row in share.stored}
    chunks = {(row.rank, row.name): row.bytes for row in costs.rest.stored}
    for path, shares in costs.table.items():
        for rank in ranks:
            sizes = [sum(row.bytes for row in share.stored if row.rank == rank) for share in shares.values()]
            # sorts where the place's own tensors do, as places do not nest
            chunks[rank, f"{path}."] = bound(sizes)
    order = sorted(chunks)
    starts = dict(zip(order, accumulate((chunks[key] for key in order), initial=0), strict=False))

    def place(path: str, share: Share) -> int:
        cursors = {rank: starts[rank, f"{path}."] for rank in ranks}
        total = 0
        for row in share.stored:
            total += row.entry_bytes(cursors[row.rank]) + row.bytes
            cursors[row.rank] += row.bytes
        return total

    rest = sum(row.entry_bytes(starts[row.rank, row.name]) + row.bytes for row in costs.rest.stored)
    table = {
        path: {block: place(path, share) for block, share in shares.items()}
        for path, shares in costs.table.items()
    }
    return Column(LEAST_BYTES + rest, table)


def _every(costs: Costs) -> list[Share]:
    return [costs.rest, *(share for row in costs.table.values() for share in row.values())]
