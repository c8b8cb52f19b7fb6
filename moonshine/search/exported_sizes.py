"""Sizes of exported files as a sum over blocks, estimated from a few files that are actually exported.

An exported file is a graph with its weights. Its size is nearly a sum over the places of the network: a number of bytes
per parameter, per buffer of a batch norm, per tensor (for its node in the graph), and per generated weight, which ONNX
stores in full.
Such a sum is off by up to 80 bytes for the INT8 files of ResNet-56 with each of the paper's blocks everywhere and of
mixtures (by 16 for WRN-16-1); one of parameters alone by 44,000.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from moonshine.costs.budgets import EXPORTED, FILE_MEASURES, Budget
from moonshine.errors import MoonshineError
from moonshine.search.limits import Impossible, check_reachable
from moonshine.search.place_costs import PlaceCost, SpaceCosts
from moonshine.search.sampling import sample
from moonshine.search.space import Mixture

Export = Callable[[Mixture, str], int]
"""Export the untrained network with these blocks in a format; return the bytes of the file."""
Files = list[tuple[Mixture, int]]
"""Networks, and the bytes of their files."""

NEAR_THE_LIMIT = 3
"""Networks near a limit that are exported to correct the estimate."""
ALIKE = 1e-6
"""A network is exported only if its file adds at least this share of the first one's information."""


def with_exported_sizes(
    known: SpaceCosts, budgets: Sequence[Budget], export: Export, rng: np.random.Generator
) -> SpaceCosts:
    """Return the costs with an estimate of every exported size that is limited, from up to nine exports of each.

    It is fitted to the files of the networks that differ most, of the smallest one, and of a few near a limit, and then
    raised until none of these is underestimated; RAM is estimated from two. A network chosen by it must still be
    exported and checked.
    `Impossible` if even the file of the smallest network is over its budget.
    """
    for budget in budgets:
        if budget.measure == "ram":
            known = _with_ram(known, budget, export)
    limited = {
        budget.measure: budget for budget in budgets if budget.measure in FILE_MEASURES.keys() & EXPORTED
    }
    files: dict[str, Files] = {}
    smallest: dict[str, Mixture] = {}

    def exports(networks: Sequence[Mixture], measure: str) -> Files:
        return [(blocks, export(blocks, measure)) for blocks in networks]

    for measure, budget in limited.items():
        files[measure] = exports(most_different(known), measure)
        known = fitted(known, measure, files[measure])
        smallest[measure] = known.extreme(measure)
        files[measure] += exports([smallest[measure]], measure)
        known = fitted(known, measure, files[measure])
        least = min(size for _, size in files[measure])
        if not budget.allows(least):
            raise Impossible(budget, known, least, "")
        known = _raised(known, budget, smallest[measure], 0)
    near: Sequence[Mixture] = ()
    if any(budget.limit < known.reachable(measure)[1] for measure, budget in limited.items()):
        with suppress(MoonshineError):  # each budget can be met, but perhaps not all of them together
            near = sample(known, budgets, NEAR_THE_LIMIT, rng).networks
    for measure, budget in limited.items():
        here = exports(near, measure)
        known = fitted(known, measure, files[measure] + here)
        off = max((size - known.of(measure, blocks) for blocks, size in here), default=0.0)
        known = _raised(known, budget, smallest[measure], off)
    return known


def _with_ram(known: SpaceCosts, budget: Budget, export: Export) -> SpaceCosts:
    """Return the costs with an estimate of RAM, from the networks with the lowest and the highest peak.

    Activations take a quarter of their peak in fp32, or a little more, and the interpreter's own data, which grow with
    the number of operators, are the larger ones of the two. `Impossible` if the lowest is over the budget.
    """
    lowest, highest = (known.extreme("peak", choose) for choose in (min, max))
    rests = [export(blocks, "ram") - known.of("peak", blocks) / 4 for blocks in (lowest, highest)]
    room = budget.limit - known.of("peak", lowest) / 4
    rest = rests[0] if rests[0] > room else min(max(rests), room)

    def ram(cost: PlaceCost) -> float:
        return cost.peak_activation_bytes / 4 + rest

    table = {path: {block: ram(cost) for block, cost in row.items()} for path, row in known.table.items()}
    known = known.with_estimate("ram", ram(known.rest), table)
    check_reachable(known, budget)
    return known


def fitted(known: SpaceCosts, measure: str, files: Files) -> SpaceCosts:
    """Return the costs with an estimate of ``measure``: a least-squares fit of the places' contents to ``files``."""
    held = _held(known, [blocks for blocks, _ in files])
    scale = np.maximum(held.max(axis=0), 1)
    sizes = np.array([size for _, size in files], dtype=float)
    fixed, *each = np.linalg.lstsq(held / scale, sizes, rcond=ALIKE)[0] / scale

    def of(cost: PlaceCost) -> float:
        return float(np.dot(each, _contents(cost)))

    table = {path: {block: of(cost) for block, cost in row.items()} for path, row in known.table.items()}
    return known.with_estimate(measure, float(fixed) + of(known.rest), table)


def most_different(known: SpaceCosts) -> list[dict[str, str]]:
    """Return at most five uniform networks, from whose files the sizes of the others can be estimated."""
    blocks = dict.fromkeys(block for row in known.table.values() for block in row)
    networks = [
        {path: block if block in row else next(iter(row)) for path, row in known.table.items()}
        for block in blocks
    ]
    held = _held(known, networks)
    told, order = qr((held / np.maximum(held.max(axis=0), 1)).T, mode="r", pivoting=True)
    told = np.abs(np.diag(told))
    return [networks[index] for index in order[: (told > ALIKE * told[0]).sum()]]


def _held(known: SpaceCosts, networks: Sequence[Mixture]) -> NDArray[np.float64]:
    """(networks, 5): one, and the sums of `_contents`."""
    costs = [[known.rest, *(row[blocks[path]] for path, row in known.table.items())] for blocks in networks]
    return np.array([[1, *np.sum([_contents(cost) for cost in each], axis=0)] for each in costs], dtype=float)


def _contents(cost: PlaceCost) -> tuple[int, int, int, int]:
    """Parameters, bytes of buffers, tensors, and dense weights in place of factors."""
    return cost.parameters, cost.data_bytes - 4 * cost.parameters, cost.tensors, cost.folded


def _raised(known: SpaceCosts, budget: Budget, smallest: Mixture, off: float) -> SpaceCosts:
    """Raise the estimate by ``off``, but not so far that the smallest network, whose file fits, no longer does."""
    measure = budget.measure
    off = min(off, budget.limit - known.of(measure, smallest))
    table = {
        path: {block: cost.of(measure) for block, cost in row.items()} for path, row in known.table.items()
    }
    return known.with_estimate(measure, known.rest.of(measure) + off, table)
