"""Plans: what is reachable under a budget, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moonshine.costs.budgets import EXPORTED, MEASURES, Budget
from moonshine.errors import MoonshineError
from moonshine.search.additive import Impossible, impossible, reachable, smallest, without_dearer
from moonshine.search.exported_sizes import estimated
from moonshine.search.place_costs import Costs, costs
from moonshine.search.place_latency import Latencies
from moonshine.search.sampling import sample
from moonshine.search.space import Space

Blocks = Mapping[str, str]
SHOWN = ("parameters", "macs", "fp32", "peak")
DRAWN = 400
TRIES = 4
"""Most mixtures that are exported for each that is wanted."""
NEAREST = 5
NEAR = 1.05
"""Files up to so much over a budget by their estimate are really exported."""


@dataclass(frozen=True)
class Option:
    """One network of a plan: the value of every measure that is known of it, and whether it fits all budgets."""

    name: str
    blocks: Blocks
    values: Mapping[str, float]
    fits: bool


@dataclass(frozen=True)
class Plan:
    """What a budget allows of one network.

    ``reach`` maps a measure to its smallest and largest value among all mixtures. ``block_ms`` maps each block to the
    latency of all places with it, and with S in the same places; those in ``slower`` take longer than what they
    replace, by more than both differ when they are measured again. ``unreliable`` maps blocks whose latency differs by
    a lot then, as on a busy machine, to the share.
    """

    teacher: Option
    uniform: tuple[Option, ...]
    mixed: tuple[Option, ...]
    reach: Mapping[str, tuple[float, float]]
    block_ms: Mapping[str, tuple[float, float]]
    slower: tuple[str, ...]
    unreliable: Mapping[str, float]


def plan(
    space: Space,
    budgets: Sequence[Budget],
    latencies: Callable[[], Latencies],
    export: Callable[[Blocks, str], int],
    *,
    mixed: int = 3,
    seed: int = 0,
) -> Plan:
    """Every uniform student and the ``mixed`` best mixtures under the budgets, with what they cost.

    Best means most multiply-accumulates, the strongest score that needs no data; a mixed student in a study is searched
    for with Fisher potential. ``latencies`` measures (or remembers) those of blocks at their places, whose sums are the
    networks' (see `moonshine.search.place_latency`).
    ``export`` gives the bytes of a really exported untrained network in a format, where a budget limits one.
    `Impossible` for a budget that no network of the space meets: it says what the minimum is and what holds it up.
    """
    known = costs(space)
    # What needs no measuring is refused first.
    for budget in budgets:
        if budget.measure not in (*EXPORTED, "latency") and (error := impossible(known, budget)):
            raise error
    times = latencies()
    known = known.with_estimate("latency", times.rest_ms, times.table)
    exported = [budget.measure for budget in budgets if budget.measure in EXPORTED]
    for budget in budgets:
        if budget.measure == "latency" and (error := impossible(known, budget)):
            raise error
    known = estimated(known, budgets, export, np.random.default_rng(seed))

    def option(name: str, chosen: Blocks) -> Option:
        blocks = {path: chosen.get(path, "S") for path in space.places}
        values = {measure: known.of(measure, blocks) for measure in (*SHOWN, "latency")}
        values |= {measure: _exported(known, budgets, blocks, measure, export) for measure in exported}
        return Option(name, blocks, values, _fits(values, budgets))

    teacher = option("teacher", {})
    uniform = [option(block, space.uniform(block)) for block in space.blocks if block != "S"]
    mixtures: list[Option] = []
    for blocks in _best(known, budgets, seed)[: TRIES * mixed]:
        found = option(f"mixed {len(mixtures) + 1}", blocks)
        if found.fits:
            mixtures.append(found)
        if len(mixtures) == mixed:
            break
    block_ms = _block_ms(space, known)
    return Plan(
        teacher,
        tuple(uniform),
        tuple(mixtures),
        {measure: reachable(known, measure) for measure in _asked(budgets)},
        block_ms,
        tuple(block for block, pair in block_ms.items() if _is_slower(times, block, pair)),
        times.unreliable,
    )


def nearest(space: Space, refused: Impossible) -> tuple[Option, tuple[Option, ...]]:
    """The teacher, and the students that come nearest to a budget that was refused, nearest first.

    With the measures that were known by then; sizes of files are estimates.
    """
    known, measure = refused.costs, refused.budget.measure
    measures = (*SHOWN, *known.rest.estimates)

    def option(name: str, chosen: Blocks) -> Option:
        blocks = {path: chosen.get(path, "S") for path in space.places}
        return Option(name, blocks, {measure: known.of(measure, blocks) for measure in measures}, False)

    uniform = [option(block, space.uniform(block)) for block in space.blocks if block != "S"]
    least = option("mixed", smallest(known, measure))
    mixed = [] if any(least.blocks == each.blocks for each in uniform) else [least]
    options = sorted([*mixed, *uniform], key=lambda option: option.values[measure])
    return option("teacher", {}), tuple(options[:NEAREST])


def _exported(
    known: Costs,
    budgets: Sequence[Budget],
    blocks: Blocks,
    measure: str,
    export: Callable[[Blocks, str], int],
) -> float:
    """The file's size: from exporting it where it may fit, else the estimate, which is over the budget."""
    limit = next(budget.limit for budget in budgets if budget.measure == measure)
    estimate = known.of(measure, blocks)
    return estimate if estimate > NEAR * limit else export(blocks, measure)


def _best(known: Costs, budgets: Sequence[Budget], seed: int) -> Sequence[Blocks]:
    """Mixtures that are estimated to fit, those that compute most first."""
    try:
        found = sample(without_dearer(known), budgets, DRAWN, np.random.default_rng(seed)).networks
    except MoonshineError:
        return ()  # each budget can be met, all of them together could not: uniform students may still show how
    return sorted(found, key=lambda blocks: -known.macs(blocks))


def _fits(values: Mapping[str, float], budgets: Iterable[Budget]) -> bool:
    return all(budget.allows(values[budget.measure]) for budget in budgets)


def _asked(budgets: Iterable[Budget]) -> list[str]:
    """The measures that budgets limit, in the order in which measures are listed."""
    limited = {budget.measure for budget in budgets}
    return [measure for measure in MEASURES if measure in limited]


def _block_ms(space: Space, known: Costs) -> dict[str, tuple[float, float]]:
    found = {}
    for block in space.blocks:
        places = [path for path in space.uniform(block) if "S" in known.table[path]]
        if block != "S" and places:
            found[block] = tuple(
                sum(known.table[path][each].estimates["latency"] for path in places) for each in (block, "S")
            )
    return found  # type: ignore[return-value]


def _is_slower(times: Latencies, block: str, pair: tuple[float, float]) -> bool:
    ours, theirs = pair
    return ours * (1 - times.spread.get(block, 0)) > theirs * (1 + times.spread.get("S", 0))
