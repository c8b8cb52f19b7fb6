"""The window of costs just below a budget, and the networks in it that satisfy all other budgets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from moonshine.costs.budgets import Budget
from moonshine.search.additive import Column, column, reachable
from moonshine.search.grid import Integers, Ways, count, to_grid
from moonshine.search.place_costs import Costs

LISTED = 4
"""A window is listed, not drawn from, if it holds at most so many networks for each that is asked for."""
BATCH = 100


@dataclass(frozen=True)
class Window:
    """The totals of one measure from ``low`` to a budget's limit; ``share`` is what it takes of the measure's range."""

    budget: Budget
    column: Column
    low: float
    high: float  # the limit, or the largest network where the limit is above it
    share: float


def windows(costs: Costs, budgets: Sequence[Budget], width: float) -> list[Window]:
    """The windows of the additive budgets that refuse something, smallest share first.

    Without any such, the one at the top of what is reachable.
    """
    binding: list[Window] = []
    idle: list[Window] = []
    for budget in budgets:
        if budget.measure != "peak":
            least, most = reachable(costs, budget.measure)
            high = min(budget.limit, most)
            low = (1 - width) * high
            share = (high - max(low, least)) / (most - least) if most > least else 1
            sums = column(costs, budget.measure)
            window = Window(budget, sums, low, high, share)
            (binding if budget.limit < most + sums.slack else idle).append(window)
    return sorted(binding, key=_share) or sorted(idle, key=_share)[:1]


def _share(window: Window) -> float:
    return window.share


@dataclass
class Request:
    """How many networks are wanted and may be drawn for them in each window; and what has become of the drawn.

    ``refused`` counts by the measure whose budget refused a network; one that was drawn before is "repeated".
    """

    number: int
    most: int
    rng: np.random.Generator
    drawn: int = 0
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Found:
    """What a window held; it is None for the whole space."""

    networks: list[dict[str, str]]
    window: Window | None
    widened: bool
    log10_networks: float


def take(costs: Costs, main: Window | None, others: Sequence[Window], request: Request) -> Found | None:
    """Networks of a window, or of the whole space; None if the other budgets refuse all that were drawn.

    An empty window is widened downwards to the nearest total below.
    """
    sums = (
        main.column if main else Column(0, {path: dict.fromkeys(row, 0) for path, row in costs.table.items()})
    )
    low, high = (main.low, main.high) if main else (0, 0)
    grid = to_grid(_rows(sums), sums.rest, high, sums.slack)
    first, last = grid.bounds(low, high)
    ways = count(grid, last)
    totals = ways.totals()
    start = int(np.searchsorted(totals, first))
    wider = 0
    while True:
        position = max(start - wider, 0)
        if position < len(totals):
            if wider and main:
                first = int(totals[position])
                main = replace(main, low=grid.least + grid.unit * first)
            before = Counter(request.refused)
            if networks := _draw(costs, ways, (first, last), main, others, request):
                return Found(networks, main, wider > 0, ways.log10(first, last))
            if any(request.refused[other.budget.measure] > before[other.budget.measure] for other in others):
                return None
        if position == 0:
            return None
        wider = max(1, 2 * wider)


def _draw(
    costs: Costs,
    ways: Ways,
    steps: tuple[int, int],
    main: Window | None,
    others: Sequence[Window],
    request: Request,
) -> list[dict[str, str]]:
    """Different networks of the first to the last of ``steps`` that all windows allow."""
    found: dict[tuple[int, ...], None] = {}
    few = ways.log10(*steps) <= math.log10(LISTED * request.number)
    left = request.most
    while len(found) < request.number and left > 0:
        if few:
            chosen = request.rng.permutation(ways.list(*steps))
        else:
            chosen = ways.draw(*steps, min(max(BATCH, request.number - len(found)), left), request.rng)
        for indices, refusal in zip(chosen.tolist(), _refusals(costs, chosen, main, others), strict=True):
            if len(found) == request.number:
                break
            left -= 1
            request.drawn += 1
            if refusal or tuple(indices) in found:
                request.refused[refusal or "repeated"] += 1
            else:
                found[tuple(indices)] = None
        if few:
            break
    return [_network(costs, indices) for indices in found]


def _refusals(costs: Costs, chosen: Integers, main: Window | None, others: Sequence[Window]) -> list[str]:
    """By network, the first measure that refuses it or nothing; only ``main`` refuses what is below its window."""
    found = np.full(len(chosen), "", dtype=object)
    for window in ([main] if main else []) + list(others):
        undecided = np.flatnonzero(found == "")
        values = _values(costs, window, chosen[undecided])
        wrong = values > window.budget.limit
        if window is main:
            wrong |= values < window.low
        found[undecided[wrong]] = window.budget.measure
    return found.tolist()


def _values(costs: Costs, window: Window, chosen: Integers) -> NDArray[np.float64]:
    """The true values of a window's measure, one per network."""
    if window.column.slack:
        return np.array([costs.of(window.budget.measure, _network(costs, row)) for row in chosen.tolist()])
    terms = [np.asarray(row, dtype=np.float64)[chosen[:, i]] for i, row in enumerate(_rows(window.column))]
    return window.column.rest + np.sum(terms, axis=0)


def _rows(column: Column) -> list[list[float]]:
    return [list(row.values()) for row in column.table.values()]


def _network(costs: Costs, indices: Sequence[int]) -> dict[str, str]:
    return {path: list(row)[index] for (path, row), index in zip(costs.table.items(), indices, strict=True)}
