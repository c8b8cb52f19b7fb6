"""Search for a mixed student under a budget: candidates are sampled, scored untrained, and the best is chosen.

Source: Turner, Crowley, O'Boyle, Storkey, Gray, "BlockSwap: Fisher-guided Block Substitution for Network Compression on
a Budget", ICLR 2020; where they reject what is outside the budget, `moonshine.search.sampling` draws from inside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import count

import numpy as np
import torch
from torch import Tensor, nn

from moonshine.config.networks import Mixed
from moonshine.costs.budgets import EXPORTED, Budget, parse_all
from moonshine.errors import MoonshineError
from moonshine.search.additive import without_dearer
from moonshine.search.exported_sizes import Export, estimated
from moonshine.search.place_costs import Costs, costs
from moonshine.search.sampling import sample
from moonshine.search.scoring import Potentials, Progress, spearman
from moonshine.search.space import Space
from moonshine.structures.structure import ScoredMixture, SearchRecord

Size = Callable[[nn.Module, str], int]
"""Bytes of the file that exporting an untrained network in a format gives: ``size(network, "onnx-int8")``."""
Finalist = Callable[[Mapping[str, str]], float]
EXPORTS = 20
"""Most exports of candidates for each that is wanted, before a search gives up on a budget of exported bytes."""


def search(
    space: Space,
    mixed: Mixed,
    images: Tensor,
    labels: Tensor,
    *,
    finalist: Finalist | None = None,
    size: Size | None = None,
    progress: Progress | None = None,
    known: Costs | None = None,
) -> SearchRecord:
    """Return the best of ``mixed.candidates`` networks drawn from the window of the budget, and how it was found.

    No block is in a place where it saves neither parameters nor MACs, see `moonshine.search.additive.without_dearer`.

    Scores: ``fisher`` takes the first initialisation of all, then the mean of ``initialisations`` of the ``best``;
    ``parameters`` and ``macs`` take the largest, ``random`` the first that was drawn. With ``mixed.finalists`` the
    first ``count`` are passed to ``finalist``, which returns a validation error, and the lowest wins. ``images`` (N,
    channels, height, width) and ``labels`` are the minibatch, of which the first ``batch_size`` are used; the computing
    is done where they are, on torch's threads.
    A budget on exported files needs ``size(network, measure)``, which exports: candidates are then drawn by an
    estimate, and what is chosen has been exported and fits. ``known`` are the space's costs where they are measured
    already, latencies with them; a budget on latency is one on the sum of its blocks' latencies. ``progress`` is told
    of every network that is scored, exported or trained. Deterministic for ``mixed.seed``, but for measured
    latencies; torch's global generator is afterwards as it was.
    MoonshineError for a budget that cannot be met, and if ``finalist`` or ``size`` is needed and not given.
    """
    budgets = parse_all(mixed.budget)
    if mixed.finalists and finalist is None:
        raise MoonshineError(
            "finalists: found no function that trains them; allowed: with search(finalist=...)"
        )
    if size is None and (exported := [budget for budget in budgets if budget.measure in EXPORTED]):
        raise MoonshineError(f"budget {exported[0]}: found no exporter; allowed: with search(size=...)")
    if known is None:
        known = costs(
            space,
            latency=any(budget.measure == "latency" for budget in budgets),
            threads=torch.get_num_threads(),
        )
    known = without_dearer(known)
    rng = np.random.default_rng(mixed.seed)
    images, labels = images[: mixed.batch_size], labels[: mixed.batch_size]
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        export = _exporter(space, size, progress)
        known = estimated(known, budgets, export, rng)
        drawn = sample(known, budgets, mixed.candidates, rng, window=mixed.window)
        potentials = Potentials(space, drawn.networks, images, labels, mixed.seed, progress)
        rankings, rank_correlation = _rankings(known, drawn.networks, mixed, potentials)
        first_fitting = _first_fitting(drawn.networks, budgets, export)

        def scored(index: int, error: float | None = None) -> ScoredMixture:
            blocks = drawn.networks[index]
            fisher = potentials.mean(index, mixed.initialisations)
            parameters, macs = known.parameters(blocks), known.macs(blocks)
            return ScoredMixture(
                blocks=blocks,
                parameters=parameters,
                macs=macs,
                fisher=fisher,
                initialisations=mixed.initialisations,
                error=error,
            )

        winners = {score: scored(first_fitting(ranking, 1)[0]) for score, ranking in rankings.items()}
        finalists: list[ScoredMixture] = []
        if mixed.finalists and finalist:
            chosen = first_fitting(rankings[mixed.score], mixed.finalists.count)
            errors = []
            for number, index in enumerate(chosen, 1):
                errors.append(finalist(drawn.networks[index]))
                if progress:
                    progress("finalists trained", number, len(chosen))
            finalists = [
                scored(index, error if math.isfinite(error) else None)
                for index, error in zip(chosen, errors, strict=True)
            ]
    # what diverged comes last, and of equals the better score first
    best = min(
        finalists,
        key=lambda each: math.inf if each.error is None else each.error,
        default=winners[mixed.score],
    )
    return SearchRecord(
        score=mixed.score,
        chosen=best,
        winners=winners,
        finalists=tuple(finalists),
        spearman=rank_correlation,
        candidates=len(drawn.networks),
        measure=drawn.measure,
        window=drawn.window,
        widened=drawn.widened,
        log10_networks=drawn.log10_networks,
        drawn=drawn.drawn,
        refused=drawn.refused,
    )


def _rankings(
    known: Costs, networks: Sequence[Mapping[str, str]], mixed: Mixed, potentials: Potentials
) -> tuple[dict[str, list[int]], dict[str, float | None]]:
    """(score -> candidates, best first; of equal ones the first drawn) and how Fisher agrees with the plain scores."""
    plain = {
        "parameters": [known.parameters(blocks) for blocks in networks],
        "macs": [known.macs(blocks) for blocks in networks],
    }
    every = range(len(networks))
    rankings = {score: _best_first(values) for score, values in plain.items()}
    rankings["random"] = list(every)
    if mixed.score != "fisher":
        return rankings, dict.fromkeys(plain)
    potentials.expect(len(networks) + min(mixed.best, len(networks)) * (mixed.initialisations - 1))
    first = [potentials.mean(index, 1) for index in every]
    order = _best_first(first)
    best = sorted(order[: mixed.best], key=lambda index: -potentials.mean(index, mixed.initialisations))
    rankings["fisher"] = best + order[mixed.best :]
    return rankings, {score: spearman(first, values) for score, values in plain.items()}


def _best_first(values: Sequence[float]) -> list[int]:
    return sorted(range(len(values)), key=lambda index: -values[index])


def _exporter(space: Space, size: Size | None, progress: Progress | None) -> Export:
    numbers = count(1)

    def export(blocks: Mapping[str, str], measure: str) -> int:
        assert size is not None  # asked only for budgets that need it
        found = size(space.build(blocks), measure)
        if progress:
            progress("networks exported", next(numbers), None)
        return found

    return export


def _first_fitting(
    networks: Sequence[Mapping[str, str]], budgets: Sequence[Budget], export: Export
) -> Callable[[Sequence[int], int], list[int]]:
    """A function that gives the first so many candidates of a ranking whose exported files fit."""
    exported = [budget for budget in budgets if budget.measure in EXPORTED]

    @cache
    def fits(index: int) -> bool:
        return all(budget.allows(export(networks[index], budget.measure)) for budget in exported)

    def first(ranking: Sequence[int], number: int) -> list[int]:
        found: list[int] = []
        for index in ranking[: EXPORTS * number]:
            if len(found) < number and fits(index):
                found.append(index)
        if not found:
            raise MoonshineError(
                f"budget {', '.join(map(str, exported))}: the files of the best {min(EXPORTS, len(networks))} of "
                f"{len(networks)} candidates are all larger; allowed: a little more"
            )
        return found

    return first
