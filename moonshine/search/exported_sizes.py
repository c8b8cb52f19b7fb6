"""Sizes of exported files as a sum over blocks, estimated between files that were really exported.

An exported file is a graph with its weights, and nearly, not exactly, a sum over the places of the network: so many
bytes for each parameter, for what each batch norm holds, and for each tensor, which stands for a node of the graph.
Such a sum is off by up to 80 bytes of the INT8 files of ResNet-56 with each of the paper's blocks everywhere and of
mixtures (16 of WRN-16-1's), one of parameters alone by 44,000.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from moonshine.costs.budgets import EXPORTED, Budget
from moonshine.errors import MoonshineError
from moonshine.search.additive import Impossible, column, reachable
from moonshine.search.place_costs import Costs, Share
from moonshine.search.sampling import sample

Blocks = Mapping[str, str]
Export = Callable[[Blocks, str], int]
"""Really exports the untrained network with these blocks in a format; returns the bytes of the file."""
Files = list[tuple[Blocks, int]]
"""Networks, and the bytes of their files."""

PROBES = 3
ALIKE = 1e-6
"""A network whose file would tell less than this share of what the first one's does is not exported."""


def estimated(known: Costs, budgets: Sequence[Budget], export: Export, rng: np.random.Generator) -> Costs:
    """``known`` with an estimate of every exported size that is limited, which costs up to eight exports of each.

    It comes from the files of networks that differ most, of the smallest one, and of a few near a limit, and is then
    moved so that none of these is estimated too small. What is chosen by it is to be exported, and looked at.
    `Impossible` if even the smallest network's file is over its budget.
    """
    limited = {budget.measure: budget for budget in budgets if budget.measure in EXPORTED}
    files: dict[str, Files] = {}
    smallest: dict[str, Blocks] = {}
    for measure, budget in limited.items():
        files[measure] = _export(different(known), measure, export)
        known = with_exported(known, measure, files[measure])
        smallest[measure] = column(known, measure).extreme(min)
        files[measure] += _export([smallest[measure]], measure, export)
        known = with_exported(known, measure, files[measure])
        least = min(size for _, size in files[measure])
        if not budget.allows(least):
            raise Impossible(budget, known, least, "")
        known = _moved(known, budget, smallest[measure], 0)
    refuses = any(budget.limit < reachable(known, measure)[1] for measure, budget in limited.items())
    near = _near(known, budgets, rng) if refuses else ()
    for measure, budget in limited.items():
        here = _export(near, measure, export)
        known = with_exported(known, measure, files[measure] + here)
        off = max((size - known.of(measure, blocks) for blocks, size in here), default=0.0)
        known = _moved(known, budget, smallest[measure], off)
    return known


def with_exported(known: Costs, measure: str, files: Files) -> Costs:
    """``known`` with an estimate of ``measure``: of the sums over what places hold, the one nearest to ``files``."""
    held = _held(known, [blocks for blocks, _ in files])
    scale = np.maximum(held.max(axis=0), 1)
    sizes = np.array([size for _, size in files], dtype=float)
    fixed, *each = np.linalg.lstsq(held / scale, sizes, rcond=ALIKE)[0] / scale

    def of(share: Share) -> float:
        return float(np.dot(each, _parts(share)))

    table = {
        path: {block: of(share) for block, share in shares.items()} for path, shares in known.table.items()
    }
    return known.with_estimate(measure, float(fixed) + of(known.rest), table)


def different(known: Costs) -> list[dict[str, str]]:
    """Those of the networks with one block wherever it fits from which the others' sizes follow: at most four."""
    blocks = dict.fromkeys(block for row in known.table.values() for block in row)
    networks = [
        {path: block if block in row else next(iter(row)) for path, row in known.table.items()}
        for block in blocks
    ]
    held = _held(known, networks)
    told, order = qr((held / np.maximum(held.max(axis=0), 1)).T, mode="r", pivoting=True)
    told = np.abs(np.diag(told))
    return [networks[index] for index in order[: (told > ALIKE * told[0]).sum()]]


def _held(known: Costs, networks: Sequence[Blocks]) -> NDArray[np.float64]:
    """(networks, 4): one, parameters, bytes of buffers, tensors."""
    shares = [[known.rest, *(row[blocks[path]] for path, row in known.table.items())] for blocks in networks]
    return np.array([[1, *np.sum([_parts(share) for share in each], axis=0)] for each in shares], dtype=float)


def _parts(share: Share) -> tuple[int, int, int]:
    return share.parameters, sum(row.bytes for row in share.stored) - 4 * share.parameters, len(share.stored)


def _export(networks: Sequence[Blocks], measure: str, export: Export) -> Files:
    return [(blocks, export(blocks, measure)) for blocks in networks]


def _near(known: Costs, budgets: Sequence[Budget], rng: np.random.Generator) -> Sequence[Blocks]:
    try:
        return sample(known, budgets, PROBES, rng).networks
    except MoonshineError:  # each budget can be met, all of them together could not
        return ()


def _moved(known: Costs, budget: Budget, smallest: Blocks, off: float) -> Costs:
    """The estimate ``off`` higher, but not so far that the smallest network, whose file fits, does not."""
    line = column(known, budget.measure)
    off = min(off, budget.limit - line.sum(smallest))
    return known.with_estimate(budget.measure, line.rest + off, line.table)
