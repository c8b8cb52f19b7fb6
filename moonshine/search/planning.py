"""Plans: the students of a network that fit a budget, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from moonshine.costs.budgets import EXPORTED, MEASURES, Budget
from moonshine.costs.file_sizes import file_bytes
from moonshine.errors import MoonshineError
from moonshine.search.exported_sizes import Export, with_exported_sizes
from moonshine.search.limits import Impossible, check_reachable, without_costlier
from moonshine.search.place_costs import SpaceCosts, place_costs
from moonshine.search.place_latency import Latencies
from moonshine.search.sampling import sample
from moonshine.search.space import Mixture, Space

MEASURED = ("parameters", "macs", "fp32", "peak")
"""Measures of every plan, besides latency and those that the budgets limit."""
DRAWN = 400
TRIES = 4
"""Most exports per mixture that is asked for."""
NEAREST = 5
MARGIN = 1.05
"""Files whose estimate is up to this multiple of the budget are actually exported."""


@dataclass(frozen=True)
class Option:
    """Network of a plan: the values of its known measures, and whether it fits all budgets."""

    name: str
    blocks: Mixture
    values: Mapping[str, float]
    fits: bool


@dataclass(frozen=True)
class Plan:
    """Students of a network under a budget.

    ``reach`` maps a measure to its smallest and largest value among all mixtures; of an exported size these are
    estimates, unless one of the students lies beyond. ``block_ms`` maps each block to the latency of its places with it
    and with S; the blocks in ``slower`` take longer than S by more than the spread of both measurements. ``unreliable``
    maps blocks to the relative difference of repeated measurements, if it is large, as on a busy machine. ``generated``
    are the blocks whose weights are dense in a graph. ``given`` are students that a study gives itself.
    """

    teacher: Option
    uniform: tuple[Option, ...]
    mixed: tuple[Option, ...]
    reach: Mapping[str, tuple[float, float]]
    block_ms: Mapping[str, tuple[float, float]]
    slower: tuple[str, ...]
    unreliable: Mapping[str, float]
    generated: tuple[str, ...] = ()
    given: tuple[Option, ...] = ()


def plan_students(
    space: Space,
    budgets: Sequence[Budget],
    latencies: Callable[[], Latencies] | None,
    export: Export,
    *,
    mixed: int = 3,
    seed: int = 0,
) -> Plan:
    """Return every uniform student and the ``mixed`` best mixtures under the budgets, with what they cost.

    Best means most multiply-accumulates, the strongest score that needs no data; the search for the mixed student of a
    study uses Fisher potential. ``latencies`` returns those of blocks at their places, whose sums are the networks'
    (see `moonshine.search.place_latency`); None for a plan without them. ``export`` is called if a budget limits an
    exported file. `Impossible` for a budget that no network of the space meets: it names the minimum and the largest
    places.
    """
    known = place_costs(space)
    for budget in budgets:  # first without the measurements that take long
        if budget.measure not in (*EXPORTED, "latency"):
            check_reachable(known, budget)
        if budget.measure == "latency" and latencies is None:
            raise MoonshineError(f"budget: found {budget}; allowed: a plan with latencies, or another budget")
    times = latencies() if latencies else None
    if times:
        known = known.with_estimate("latency", times.rest_ms, times.table)
    for budget in budgets:
        if budget.measure == "latency":
            check_reachable(known, budget)
    known = with_exported_sizes(known, budgets, export, np.random.default_rng(seed))

    def option(name: str, chosen: Mixture) -> Option:
        blocks = {path: chosen.get(path, "S") for path in space.places}
        timed = ("latency",) if times else ()
        shown = dict.fromkeys((*MEASURED, *timed, *(budget.measure for budget in budgets)))
        values = {measure: known.of(measure, blocks) for measure in shown}
        with torch.device("meta"):
            values["fp32"] = file_bytes(space.build(blocks).state_dict(keep_vars=True))
        for budget in budgets:
            if budget.measure in EXPORTED and values[budget.measure] <= MARGIN * budget.limit:
                values[budget.measure] = export(blocks, budget.measure)
        return Option(name, blocks, values, all(budget.allows(values[budget.measure]) for budget in budgets))

    teacher = option("teacher", {})
    uniform = [option(block, space.uniform(block)) for block in space.blocks if block != "S"]
    mixtures: list[Option] = []
    for blocks in _best(known, budgets, seed)[: TRIES * mixed]:
        found = option(f"mixed {len(mixtures) + 1}", blocks)
        if found.fits:
            mixtures.append(found)
        if len(mixtures) == mixed:
            break
    limited = {budget.measure for budget in budgets}
    options = (teacher, *uniform, *mixtures)
    block_ms = _block_ms(space, known) if times else {}
    return Plan(
        teacher,
        tuple(uniform),
        tuple(mixtures),
        {measure: _reach(known, measure, options) for measure in MEASURES if measure in limited},
        block_ms,
        tuple(block for block, pair in block_ms.items() if times and _is_slower(times, block, pair)),
        times.unreliable if times else {},
        tuple(dict.fromkeys(b for row in known.table.values() for b, cost in row.items() if cost.folded)),
    )


def nearest_students(space: Space, refused: Impossible) -> tuple[Option, tuple[Option, ...]]:
    """Return the teacher, and the students nearest to a budget that cannot be met, nearest first.

    With the measures known so far; sizes of files are estimates.
    """
    known, limited = refused.costs, refused.budget.measure
    measures = dict.fromkeys((*MEASURED, *known.rest.estimates))

    def option(name: str, chosen: Mixture) -> Option:
        blocks = {path: chosen.get(path, "S") for path in space.places}
        return Option(name, blocks, {measure: known.of(measure, blocks) for measure in measures}, False)

    uniform = [option(block, space.uniform(block)) for block in space.blocks if block != "S"]
    least = option("mixed", known.extreme(limited))
    mixed = [] if any(least.blocks == each.blocks for each in uniform) else [least]
    options = sorted([*mixed, *uniform], key=lambda option: option.values[limited])
    return option("teacher", {}), tuple(options[:NEAREST])


def _reach(known: SpaceCosts, measure: str, options: Sequence[Option]) -> tuple[float, float]:
    values = [*known.reachable(measure), *(option.values[measure] for option in options)]
    return min(values), max(values)


def _best(known: SpaceCosts, budgets: Sequence[Budget], seed: int) -> Sequence[Mixture]:
    """Return mixtures that are estimated to fit, those with the most MACs first."""
    try:
        found = sample(without_costlier(known), budgets, DRAWN, np.random.default_rng(seed)).networks
    except (
        MoonshineError
    ):  # each budget can be met, but not all together; uniform students may still show how
        return ()
    return sorted(found, key=lambda blocks: -known.of("macs", blocks))


def _block_ms(space: Space, known: SpaceCosts) -> dict[str, tuple[float, float]]:
    found = {}
    for block in space.blocks:
        places = [path for path in space.uniform(block) if "S" in known.table[path]]
        if block != "S" and places:
            own_ms, ordinary_ms = (
                sum(known.table[path][each].of("latency") for path in places) for each in (block, "S")
            )
            found[block] = (own_ms, ordinary_ms)
    return found


def _is_slower(times: Latencies, block: str, pair: tuple[float, float]) -> bool:
    own_ms, ordinary_ms = pair
    return own_ms * (1 - times.spread.get(block, 0)) > ordinary_ms * (1 + times.spread.get("S", 0))
