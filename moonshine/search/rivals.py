"""Rivals: the largest ordinary network of the teacher's family within the same budget.

Fewer channels or fewer layers could save as much as a cheap block; a rival is the largest network with one or the other
and no other change. Loads torch only to measure, so that a study is checked without it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from moonshine.costs.budgets import MEASURES, Budget, show
from moonshine.errors import MoonshineError
from moonshine.networks.families import ALLOWED_NETWORKS, PLACES, Design, is_model, parse_network

if TYPE_CHECKING:
    from torch import nn

WIDTH_STEPS = 64
"""Number of steps into which the teacher's width is divided."""

SAME_AS = {"torchvision/resnet18": "resnet-18", "torchvision/resnet34": "resnet-34"}
"""Third-party models that are equal to a network of a built-in family."""


def rival_candidates(teacher: str, scale: str) -> tuple[str, ...]:
    """Return the names of the smaller networks of a teacher's family that differ in width or in depth alone, ascending.

    Widths: every distinct network in steps of 1/64 of the teacher's.
    MoonshineError for a teacher without a family, an invalid ``scale``, and a teacher without smaller networks.
    """
    if is_model(teacher) and teacher not in SAME_AS:
        raise MoonshineError(
            f"rival: {teacher} belongs to no family of networks; allowed: {', '.join(SAME_AS)}; {ALLOWED_NETWORKS}"
        )
    design = parse_network(SAME_AS.get(teacher, teacher))
    if scale == "width":
        found = _narrower(design)
    elif scale == "depth":
        found = [
            Design(design.family, depth, design.width)
            for depth in design.family.blocks
            if depth < design.depth
        ]
    else:
        raise MoonshineError(f"rival: scale is {scale!r}; allowed: width, depth")
    if not found:
        raise MoonshineError(f"rival: no network of the family of {teacher} is smaller in {scale}")
    return tuple(map(str, found))


def _narrower(design: Design) -> list[Design]:
    smallest_step = Decimal(1).scaleb(-PLACES)
    distinct: dict[tuple[int, ...], Design] = {}
    for step in range(1, WIDTH_STEPS):
        width = (design.width * step / WIDTH_STEPS).quantize(smallest_step, ROUND_HALF_UP)
        narrower = Design(design.family, design.depth, width)
        if min(narrower.channels) >= 1 and narrower.channels != design.channels:
            distinct.setdefault(narrower.channels, narrower)
    return list(distinct.values())


def rival(
    teacher: str,
    scale: str,
    budgets: Sequence[Budget],
    num_classes: int,
    input_shape: Sequence[int],
    size: Callable[[nn.Module, str], float] | None = None,
) -> str:
    """Return the name of the largest network among `rival_candidates` that fits all budgets.

    ``input_shape`` is (channels, height, width). Parameters, MACs, fp32 bytes and peak memory are those of
    `moonshine.costs.cost.cost`; ``size(module, measure)`` returns the other measures of an untrained network, and is
    called only where these fit. By bisection: what the budgets limit must not shrink when the network grows (a measured
    latency may, by its noise); the network returned has been measured to fit.
    MoonshineError as for `rival_candidates`, for a budget on another measure without ``size``, and for budgets that
    not even the smallest candidate meets: it says what that one has.
    """
    import torch

    from moonshine.costs.cost import cost
    from moonshine.structures.build import build

    names = rival_candidates(teacher, scale)
    known = {"parameters": "parameters", "macs": "macs", "fp32": "bytes", "peak": "peak_activation_bytes"}
    cheap = [budget for budget in budgets if budget.measure in known]
    dear = [budget for budget in budgets if budget.measure not in known]
    if dear and size is None:
        raise MoonshineError(
            f"rival: the budget {dear[0]} limits the {MEASURES[dear[0].measure].shown}, which must be measured; "
            f"allowed here: budgets on {', '.join(known)}"
        )

    @cache
    def exceeded(name: str) -> tuple[str, ...]:
        """Return the measures over budget with their values; expensive ones only if the cheap ones fit."""
        with torch.device("meta"):
            shadow = build(name, "S", num_classes, input_shape[0])
        costs = cost(shadow, input_shape)
        over = _over(cheap, {measure: getattr(costs, field) for measure, field in known.items()}.__getitem__)
        if over or not dear:
            return over
        module = build(name, "S", num_classes, input_shape[0])
        return _over(dear, lambda measure: size(module, measure) if size else 0.0)

    fitting = []
    for group in _alike(names):
        if count := bisect_left(group, True, key=lambda name: bool(exceeded(name))):
            fitting.append(group[count - 1])
    if not fitting:
        raise MoonshineError(
            f"rival: no network of {teacher} scaled in {scale} fits {' and '.join(map(str, budgets))}; the smallest, "
            f"{names[0]}, has {' and '.join(exceeded(names[0]))}"
        )
    return max(fitting, key=names.index)


def _alike(names: Sequence[str]) -> list[list[str]]:
    """Group the names by equal shortcuts: peak memory drops when a stage becomes as wide as its input."""
    groups: dict[tuple[bool, ...], list[str]] = {}
    for name in names:
        shortcuts = tuple(before != after for before, after in pairwise(parse_network(name).channels))
        groups.setdefault(shortcuts, []).append(name)
    return list(groups.values())


def _over(budgets: Sequence[Budget], value: Callable[[str], float]) -> tuple[str, ...]:
    values = {budget: value(budget.measure) for budget in budgets}
    return tuple(
        f"{show(budget.measure, found)} ({MEASURES[budget.measure].shown})"
        for budget, found in values.items()
        if not budget.allows(found)
    )
