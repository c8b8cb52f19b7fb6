"""Rivals: the largest ordinary network of the teacher's family within the same budget.

What a cheap block saves could also be saved by fewer channels or fewer layers; a rival is the largest network that does
one or the other and nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import torch
from torch import nn

from moonshine.costs.budgets import MEASURES, Budget, show
from moonshine.costs.cost import cost
from moonshine.errors import MoonshineError
from moonshine.networks.families import parse
from moonshine.search.rival_candidates import candidates
from moonshine.structures.build import build

Size = Callable[[nn.Module, str], float]


def rival(
    teacher: str,
    scale: str,
    budgets: Sequence[Budget],
    num_classes: int,
    input_shape: Sequence[int],
    size: Size | None = None,
) -> str:
    """The name of the largest network that all budgets allow among `moonshine.search.rival_candidates.candidates`.

    ``input_shape`` is (channels, height, width). Parameters, MACs, fp32 bytes and peak memory are those of
    `moonshine.costs.cost.cost`; ``size(module, measure)`` gives the other measures of an untrained network, and is
    asked only where these fit. A bisection: what the budgets limit must not shrink when the network grows (a measured
    latency may, by its noise), and what is returned has been seen to fit.
    MoonshineError as for `candidates`, for a budget on another measure without ``size``, and for budgets that not even
    the smallest candidate meets: it says what that one has.
    """
    names = candidates(teacher, scale)
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
        """The measures that go over budget, with their values; the dear ones only where the others do not."""
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
    """The names in groups of the same shortcuts: peak memory falls where a stage gets as wide as what it is fed."""
    groups: dict[tuple[bool, ...], list[str]] = {}
    for name in names:
        shortcuts = tuple(before != after for before, after in pairwise(parse(name).channels))
        groups.setdefault(shortcuts, []).append(name)
    return list(groups.values())


def _over(budgets: Sequence[Budget], value: Callable[[str], float]) -> tuple[str, ...]:
    values = {budget: value(budget.measure) for budget in budgets}
    return tuple(
        f"{show(budget.measure, found)} ({MEASURES[budget.measure].shown})"
        for budget, found in values.items()
        if not budget.allows(found)
    )
