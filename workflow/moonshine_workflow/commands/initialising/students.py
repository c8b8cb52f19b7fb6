"""The students of a new study: blocks everywhere that fit the budget, a searched mixture, and a rival."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from moonshine.blocks.presets import SMALL, choices
from moonshine.blocks.registry import parse_block
from moonshine.calls.plan_measurements import exporter
from moonshine.costs.budgets import EXPORTED, Budget, parse_budgets
from moonshine.errors import MoonshineError
from moonshine.search.exported_sizes import with_exported_sizes
from moonshine.search.limits import Impossible, check_reachable
from moonshine.search.place_costs import SpaceCosts, place_costs
from moonshine.search.rivals import rival
from moonshine.search.space import Space
from moonshine.structures.describe import places_of
from moonshine_workflow.commands.initialising.data import Seen

BLOCKS = ("G(2)", "G(4)", "G(N/8)", "G(N)", "B(2)", "BG(2,M)")
"""Tried first; where no network of these is within the budget, the smallest blocks."""
MOST = 3
OWN_RIVAL = "a narrower one of yours is a student such as `thin: {kwargs: {width: 8}, block: S}`"


def choose_students(
    teacher: Mapping[str, Any], budgets: Sequence[str], seen: Seen
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the section ``students`` for a teacher, and what there is to say about it.

    Of the blocks that fit the budgets those with the most multiply-accumulates; where nothing fits, the smallest.
    MoonshineError for an invalid budget, and for a network in which none of the blocks fits anywhere.
    """
    limits = list(parse_budgets(budgets)) if budgets else []
    name = teacher.get("model") or teacher["network"]
    said: list[str] = []
    if any(limit.measure == "latency" for limit in limits):
        said.append("nothing about latencies, which `moonshine plan` measures")
    limits = [limit for limit in limits if limit.measure != "latency"]
    for blocks in (BLOCKS, SMALL):
        found = places_of(name, teacher.get("kwargs", {}), seen.classes, seen.shape, choices(blocks))
        space = Space(*found, seen.shape, name)
        known, refused = _known(space, limits)
        if not refused:
            break
    possible = refused is None
    if refused:
        said.append(f"NOTHING FITS: {refused}")
    uniform = {
        block: {**space.uniform("S"), **space.uniform(block)} for block in space.blocks if block != "S"
    }

    def fits(block: str) -> bool:
        return possible and all(limit.allows(known.of(limit.measure, uniform[block])) for limit in limits)

    ordered = sorted(uniform, key=lambda block: -known.of("macs", uniform[block]))
    chosen = [block for block in ordered if fits(block)][:MOST]
    if limits and possible and not chosen:
        said.append("no block fits the budget everywhere; a mixture does")
    students: dict[str, dict[str, Any]] = {
        parse_block(block).slug: {"block": block}
        for block in chosen or ordered[-1:]
        if chosen or not possible
    }
    budget = budgets[0] if len(budgets) == 1 else list(budgets)
    if budgets and possible:
        students["mix"] = {"mixed": {"budget": budget, **({"blocks": "small"} if blocks is SMALL else {})}}
    if budgets:
        try:
            rival(
                name,
                "width",
                [each for each in limits if each.measure not in EXPORTED],
                seen.classes,
                seen.shape,
            )
            students["narrow"] = {"rival": {"scale": "width", "budget": budget}}
        except MoonshineError as error:
            reason, *_ = str(error).partition("; allowed")
            said.append(f"no ordinary network of the same size to compare with ({reason}); {OWN_RIVAL}")
    return students, said


def _known(space: Space, limits: Sequence[Budget]) -> tuple[SpaceCosts, Impossible | None]:
    """Return the costs of the space, with what the budgets limit, and why none of its networks is within them."""
    known = place_costs(space)
    try:
        for limit in limits:
            if limit.measure not in EXPORTED:
                check_reachable(known, limit)
        export = exporter(space, tell=partial(print, file=sys.stderr))
        return with_exported_sizes(known, limits, export, np.random.default_rng(0)), None
    except Impossible as error:
        return error.costs, error
