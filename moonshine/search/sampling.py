"""Uniform sampling from the networks of a space that are within a budget."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moonshine.costs.budgets import Budget, show
from moonshine.errors import MoonshineError
from moonshine.search.additive import impossible, within_peak
from moonshine.search.place_costs import Costs
from moonshine.search.windows import Request, Window, take, windows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """Different networks within all budgets, drawn from a window below one of them."""

    networks: tuple[dict[str, str], ...]
    measure: str | None  # that the window is of; None if only the peak is limited, which needs no window
    window: tuple[float, float] | None  # of that measure, both ends included
    widened: bool  # downwards, because there was no network in the window that was asked for
    log10_networks: float  # of the networks in the window, before other budgets; at most so many
    drawn: int
    refused: dict[str, int]  # of the drawn, by the measure whose budget refused them, or as "repeated"


def sample(
    costs: Costs,
    budgets: Sequence[Budget],
    number: int,
    rng: np.random.Generator,
    *,
    window: float = 0.025,
    most_drawn: int | None = None,
) -> Sample:
    """``number`` different networks, uniformly from those whose total lies in [(1 - window) * limit, limit].

    By dynamic programming over the places for the budget whose window is the smallest share of its range; by rejection
    for the others. A peak limits the blocks at each place separately. A budget above the largest network counts as
    that one's size, so that the window is at the top of what is reachable. If no network is in the window, it
    is widened down to the nearest. If it holds fewer than ``number``, all are returned. ``costs`` must hold an estimate
    of every measure that is not exact, see `Costs.with_estimate`.
    MoonshineError for a budget below the smallest network, and if ``most_drawn`` (200 for each that is asked for, but
    10,000 at least) draws find none: it says how many each budget refused. Deterministic for a generator's state.
    """
    for budget in budgets:
        if error := impossible(costs, budget):
            raise error
    for budget in budgets:
        if budget.measure == "peak":
            costs = within_peak(costs, budget.limit)
    # a lower peak may have taken the smallest networks away
    for budget in budgets:
        if error := impossible(costs, budget):
            raise MoonshineError(f"{error}, where the peak is limited too")
    below = windows(costs, budgets, window)
    most = most_drawn or max(10_000, 200 * number)
    request = Request(number, most, rng)
    mains: Sequence[Window | None] = below or [None]
    for main in mains:
        others = [other for other in below if other is not main]
        if found := take(costs, main, others, request):
            break
    else:
        refused = ", ".join(f"{by} {times:,}" for by, times in request.refused.most_common())
        raise MoonshineError(
            f"budget {', '.join(map(str, budgets))}: of {request.drawn:,} networks drawn none is within all of them; "
            f"refused by {refused}; allowed: budgets that one network can keep to"
        )
    used = found.window
    if used and found.widened:
        begin, end = show(used.budget.measure, used.low), show(used.budget.measure, used.high)
        logger.warning("budget %s: no network in the window; it now is %s to %s", used.budget, begin, end)
    return Sample(
        tuple(found.networks),
        used.budget.measure if used else None,
        (used.low, used.high) if used else None,
        found.widened,
        found.log10_networks,
        request.drawn,
        dict(request.refused),
    )
