"""Uniform sampling of the networks of a space within a budget."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from moonshine.costs.budgets import MAXIMA, Budget, show
from moonshine.errors import MoonshineError
from moonshine.search.grid import Integers, Ways, count_ways, to_grid
from moonshine.search.limits import Impossible, check_reachable, within_maximum
from moonshine.search.place_costs import SpaceCosts

logger = logging.getLogger(__name__)

LISTED = 4
"""A window is listed, not sampled, if it holds at most this many networks per network that is asked for."""
DRAWN_AT_ONCE = 100


@dataclass(frozen=True)
class Sample:
    """Distinct networks within all budgets, drawn from a window below one of them."""

    networks: tuple[dict[str, str], ...]
    measure: str | None  # that the window is of; None if only the peak is limited, which needs no window
    window: tuple[float, float] | None  # of that measure, both ends included
    widened: bool  # downwards, because there was no network in the window that was asked for
    log10_networks: float  # of the networks in the window, before other budgets; at most so many
    drawn: int
    refused: dict[str, int]  # of the drawn, by the measure whose budget refused them, or as "repeated"


@dataclass(frozen=True)
class Window:
    """Range of totals of one measure, from ``low`` to ``high``; ``share`` is its share of the measure's full range."""

    budget: Budget
    low: float
    high: float  # the limit, or the largest network where the limit is above it
    share: float


def sample(
    costs: SpaceCosts,
    budgets: Sequence[Budget],
    number: int,
    rng: np.random.Generator,
    *,
    window: float = 0.025,
    most_drawn: int | None = None,
) -> Sample:
    """Draw distinct networks, uniformly from those whose total lies in [(1 - window) * limit, limit].

    By dynamic programming over the places for the budget whose window is the smallest share of its range; by rejection
    for the others. A peak (RAM too) limits the blocks at each place separately. A budget above the largest network
    counts as that one's size, so that the window is at the top of what is reachable. If no network is in the window, it
    is widened down to the nearest. If it holds fewer than ``number``, all are returned. ``costs`` must hold an estimate
    of every measure that is not exact, see `SpaceCosts.with_estimate`.
    MoonshineError for a budget below the smallest network, and if ``most_drawn`` (200 for each that is asked for, but
    10,000 at least) draws find none: it says how many each budget refused. Deterministic for a generator's state.
    """
    for budget in budgets:
        check_reachable(costs, budget)
    for budget in budgets:
        if budget.measure in MAXIMA:
            costs = within_maximum(costs, budget)
    for budget in budgets:
        try:
            check_reachable(costs, budget)
        except Impossible as error:
            raise MoonshineError(f"{error}, where the peak is limited too") from None
    windows = _windows(costs, budgets, window)
    drawing = _Drawing(costs, windows, number, most_drawn or max(10_000, 200 * number), rng)
    mains: Sequence[Window | None] = windows or [None]
    for main in mains:
        if found := drawing.take(main):
            return found
    refused = ", ".join(f"{by} {times:,}" for by, times in drawing.refused.most_common())
    raise MoonshineError(
        f"budget {', '.join(map(str, budgets))}: none of {drawing.drawn:,} drawn networks is within all of them; "
        f"refused by {refused}; allowed: budgets that one network can meet"
    )


def _windows(costs: SpaceCosts, budgets: Sequence[Budget], width: float) -> list[Window]:
    """Return the windows of the additive budgets that exclude a network, smallest share first.

    If there are none, the window at the top of the reachable range.
    """
    binding: list[Window] = []
    idle: list[Window] = []
    for budget in budgets:
        if budget.measure not in MAXIMA:
            least, most = costs.reachable(budget.measure)
            high = min(budget.limit, most)
            low = (1 - width) * high
            share = (high - max(low, least)) / (most - least) if most > least else 1
            (binding if budget.limit < most else idle).append(Window(budget, low, high, share))

    def by_share(windows: list[Window]) -> list[Window]:
        return sorted(windows, key=lambda window: window.share)

    return by_share(binding) or by_share(idle)[:1]


@dataclass
class _Drawing:
    """Drawing of ``number`` networks, with at most ``most`` draws per window.

    ``refused`` counts the draws by the measure whose budget refused them; repeated draws count as "repeated".
    """

    costs: SpaceCosts
    windows: list[Window]
    number: int
    most: int
    rng: np.random.Generator
    drawn: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def take(self, main: Window | None) -> Sample | None:
        """Return networks of a window, or of the whole space; None if the other budgets refuse all that were drawn.

        An empty window is widened downwards to the nearest total below.
        """
        others = [window for window in self.windows if window is not main]
        rest, rows = self._terms(main)
        grid = to_grid(rows, rest, main.high if main else 0)
        first, last = grid.bounds(main.low, main.high) if main else (0, 0)
        ways = count_ways(grid, last)
        totals = ways.totals()
        start = int(np.searchsorted(totals, first))
        wider = 0
        while True:
            position = max(start - wider, 0)
            if position < len(totals):
                if wider and main:
                    first = int(totals[position])
                    main = replace(main, low=grid.least + grid.unit * first)
                before = self.refused.copy()
                if networks := self._draw(ways, first, last, main, others):
                    if wider and main:
                        ends = [show(main.budget.measure, value) for value in (main.low, main.high)]
                        message = "budget %s: no network in the window; it now is %s to %s"
                        logger.warning(message, main.budget, *ends)
                    return Sample(
                        tuple(networks),
                        main.budget.measure if main else None,
                        (main.low, main.high) if main else None,
                        wider > 0,
                        ways.log10(first, last),
                        self.drawn,
                        dict(self.refused),
                    )
                refused = self.refused - before
                if any(refused[other.budget.measure] for other in others):
                    return None
            if position == 0:
                return None
            wider = max(1, 2 * wider)

    def _terms(self, window: Window | None) -> tuple[float, list[list[float]]]:
        """Return the constant part, and a row for each place, of the sum that is a window's measure."""
        if window is None:
            return 0, [[0.0] * len(row) for row in self.costs.table.values()]
        measure = window.budget.measure
        rows = self.costs.table.values()
        return self.costs.rest.of(measure), [[cost.of(measure) for cost in row.values()] for row in rows]

    def _draw(
        self, ways: Ways, first: int, last: int, main: Window | None, others: Sequence[Window]
    ) -> list[dict[str, str]]:
        """Return distinct networks of ``first`` to ``last`` steps that all windows allow."""
        found: dict[tuple[int, ...], None] = {}
        few = ways.log10(first, last) <= math.log10(LISTED * self.number)
        left = self.most
        while len(found) < self.number and left > 0:
            if few:
                chosen = self.rng.permutation(ways.list(first, last))
            else:
                wanted = min(max(DRAWN_AT_ONCE, self.number - len(found)), left)
                chosen = ways.draw(first, last, wanted, self.rng)
            for indices, refusal in zip(chosen.tolist(), self._refusals(chosen, main, others), strict=True):
                if len(found) == self.number:
                    break
                left -= 1
                self.drawn += 1
                if refusal or tuple(indices) in found:
                    self.refused[refusal or "repeated"] += 1
                else:
                    found[tuple(indices)] = None
            if few:
                break
        rows = [list(row) for row in self.costs.table.values()]
        blocks = ([row[index] for row, index in zip(rows, indices, strict=True)] for indices in found)
        return [dict(zip(self.costs.table, each, strict=True)) for each in blocks]

    def _refusals(self, chosen: Integers, main: Window | None, others: Sequence[Window]) -> list[str]:
        """Return for each network the first measure that refuses it, or None; only ``main`` has a lower bound."""
        found = np.full(len(chosen), "", dtype=object)
        for window in ([main] if main else []) + list(others):
            rest, rows = self._terms(window)
            values = rest + sum(np.asarray(row)[chosen[:, i]] for i, row in enumerate(rows))
            wrong = values > window.budget.limit
            if window is main:
                wrong |= values < window.low
            found[wrong & (found == "")] = window.budget.measure
        return found.tolist()
