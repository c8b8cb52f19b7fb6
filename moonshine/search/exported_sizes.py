"""Sizes of exported files as a sum over blocks, estimated from files that were really exported.

An exported file is a graph with its weights, and nearly, not exactly, a sum over the places of the network: so many
bytes for each parameter, for what each batch norm holds, for each tensor, which stands for a node of the graph, and
for each weight that is generated from fewer numbers, which graphs in ONNX store.
Such a sum is off by up to 80 bytes for the INT8 files of ResNet-56 with each of the paper's blocks everywhere and of
mixtures (by 16 for WRN-16-1); one of parameters alone by 44,000.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from moonshine.costs.budgets import EXPORTED, Budget
from moonshine.errors import MoonshineError
from moonshine.search.limits import Impossible
from moonshine.search.place_costs import PlaceCost, SpaceCosts
from moonshine.search.sampling import sample
from moonshine.search.space import Mixture

Export = Callable[[Mixture, str], int]
"""Export the untrained network with these blocks in a format; return the bytes of the file."""
Files = list[tuple[Mixture, int]]
"""Networks, and the bytes of their files."""

NEAR_THE_LIMIT = 3
"""Networks that are exported to correct the estimate where it decides."""
ALIKE = 1e-6
"""A network whose file would tell less than this share of what the first one's does is not exported."""


def with_exported_sizes(
    known: SpaceCosts, budgets: Sequence[Budget], export: Export, rng: np.random.Generator
) -> SpaceCosts:
    """Return the costs with an estimate of every exported size that is limited, for up to nine exports of each.

    It is fitted to the files of networks that differ most, of the smallest one, and of a few near a limit, and then
    raised until none of these is estimated too small. What is chosen by it must be exported and checked.
    `Impossible` if even the file of the smallest network is over its budget.
    """
    limited = {budget.measure: budget for budget in budgets if budget.measure in EXPORTED}
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


def fitted(known: SpaceCosts, measure: str, files: Files) -> SpaceCosts:
    """Return the costs with an estimate of ``measure``: the least-squares fit to ``files`` of what the places hold."""
    held = _held(known, [blocks for blocks, _ in files])
    scale = np.maximum(held.max(axis=0), 1)
    sizes = np.array([size for _, size in files], dtype=float)
    fixed, *each = np.linalg.lstsq(held / scale, sizes, rcond=ALIKE)[0] / scale

    def of(cost: PlaceCost) -> float:
        return float(np.dot(each, _contents(cost)))

    table = {path: {block: of(cost) for block, cost in row.items()} for path, row in known.table.items()}
    return known.with_estimate(measure, float(fixed) + of(known.rest), table)


def most_different(known: SpaceCosts) -> list[dict[str, str]]:
    """Return at most five networks, one block wherever it fits in each, from which the sizes of the others follow."""
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
    """The estimate ``off`` higher, but not so much that the smallest network, whose file fits, does not."""
    measure = budget.measure
    off = min(off, budget.limit - known.of(measure, smallest))
    table = {
        path: {block: cost.of(measure) for block, cost in row.items()} for path, row in known.table.items()
    }
    return known.with_estimate(measure, known.rest.of(measure) + off, table)
