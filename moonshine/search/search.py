"""Search for a mixed student under a budget: candidates are sampled and scored untrained, and the best is chosen.

Source: Turner, Crowley, O'Boyle, Storkey, Gray, "BlockSwap: Fisher-guided Block Substitution for Network Compression on
a Budget", ICLR 2020; where they reject what is outside the budget, `moonshine.search.sampling` draws from inside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count

import numpy as np
import torch
from torch import Tensor, nn

from moonshine.config.networks import Mixed
from moonshine.costs.budgets import EXPORTED, Budget, parse_budgets
from moonshine.errors import MoonshineError
from moonshine.progress import ReportProgress
from moonshine.search.exported_sizes import Export, with_exported_sizes
from moonshine.search.fisher import Potentials
from moonshine.search.limits import without_costlier
from moonshine.search.place_costs import SpaceCosts, place_costs
from moonshine.search.place_latency import measure_latencies
from moonshine.search.sampling import sample
from moonshine.search.space import Mixture, Space
from moonshine.structures.structure import ScoredMixture, SearchRecord

EXPORTS = 20
"""Most exports per candidate that is asked for, before a search gives up on a budget of exported bytes."""


def search(
    space: Space,
    mixed: Mixed,
    images: Tensor,
    labels: Tensor,
    *,
    finalist: Callable[[Mixture], float] | None = None,
    size: Callable[[nn.Module, str], int] | None = None,
    progress: ReportProgress | None = None,
    known: SpaceCosts | None = None,
) -> SearchRecord:
    """Return the best of ``mixed.candidates`` networks drawn from the window of the budget, and the search's record.

    No block is at a place where it saves neither parameters nor MACs, see `moonshine.search.limits.without_costlier`.

    Scores: ``fisher`` scores one initialisation of every candidate, then the mean over ``initialisations`` of the
    ``best``; ``parameters`` and ``macs`` choose the largest, ``random`` the first drawn. With ``mixed.finalists`` the
    first ``count`` are passed to ``finalist``, which returns a validation error, and the lowest wins. ``images`` (N,
    channels, height, width) and ``labels`` are the minibatch, of which the first ``batch_size`` are used; networks are
    scored on its device.
    A budget on exported files needs ``size(network, measure)``, which exports an untrained network in the format of a
    measure and returns the bytes of its file: candidates are then drawn by an estimate, and the chosen one has been
    exported and fits. ``known`` are the costs of the space, latencies included, if they have been measured; a budget on
    latency limits the sum over the blocks. ``progress`` is called for every network that is scored, exported or
    trained. Deterministic for ``mixed.seed``, except for measured latencies; torch's global generator is restored.
    MoonshineError for a budget that cannot be met, and if ``finalist`` or ``size`` is needed and not given.
    """
    budgets = parse_budgets(mixed.budget)
    if mixed.finalists and finalist is None:
        raise MoonshineError(
            "finalists: found no function that trains them; allowed: with search(finalist=...)"
        )
    if size is None and (exported := [budget for budget in budgets if budget.measure in EXPORTED]):
        raise MoonshineError(f"budget {exported[0]}: found no exporter; allowed: with search(size=...)")
    if known is None:
        is_timed = any(budget.measure == "latency" for budget in budgets)
        times = measure_latencies(space, threads=torch.get_num_threads()) if is_timed else None
        known = place_costs(space, times)
    known = without_costlier(known)
    rng = np.random.default_rng(mixed.seed)
    images, labels = images[: mixed.batch_size], labels[: mixed.batch_size]
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        export = _exporter(space, size, progress)
        known = with_exported_sizes(known, budgets, export, rng)
        drawn = sample(known, budgets, mixed.candidates, rng, window=mixed.window)
        potentials = Potentials(space, drawn.networks, images, labels, mixed.seed, progress)
        rankings, rank_correlation = _rankings(known, drawn.networks, mixed, potentials)
        first_fitting = _first_fitting(drawn.networks, budgets, export)

        def scored(index: int, error: float | None = None) -> ScoredMixture:
            blocks = drawn.networks[index]
            return ScoredMixture(
                blocks=blocks,
                parameters=int(known.of("parameters", blocks)),
                macs=int(known.of("macs", blocks)),
                fisher=potentials.mean(index, mixed.initialisations),
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
    # diverged finalists come last; among equal errors the better score comes first
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
        **{name: value for name, value in vars(drawn).items() if name != "networks"},
    )


def _rankings(
    known: SpaceCosts, networks: Sequence[Mixture], mixed: Mixed, potentials: Potentials
) -> tuple[dict[str, list[int]], dict[str, float | None]]:
    """Return score -> candidates, best first (ties: first drawn), and Fisher's rank correlation with other scores."""
    plain = {score: [known.of(score, blocks) for blocks in networks] for score in ("parameters", "macs")}
    every = range(len(networks))
    rankings = {score: _best_first(values) for score, values in plain.items()}
    rankings["random"] = list(every)
    if mixed.score != "fisher":
        return rankings, dict.fromkeys(plain)
    potentials.expected = len(networks) + min(mixed.best, len(networks)) * (mixed.initialisations - 1)
    first = [potentials.mean(index, 1) for index in every]
    order = _best_first(first)
    best = sorted(order[: mixed.best], key=lambda index: -potentials.mean(index, mixed.initialisations))
    rankings["fisher"] = best + order[mixed.best :]
    return rankings, {score: spearman(first, values) for score, values in plain.items()}


def _best_first(values: Sequence[float]) -> list[int]:
    return sorted(range(len(values)), key=lambda index: -values[index])


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, equal values sharing their mean rank; None if a side has one value only."""
    from scipy.stats import spearmanr

    if any(len(set(side)) < 2 for side in (left, right)):
        return None
    return float(spearmanr(left, right).statistic)


def _exporter(
    space: Space, size: Callable[[nn.Module, str], int] | None, progress: ReportProgress | None
) -> Export:
    numbers = count(1)

    def export(blocks: Mixture, measure: str) -> int:
        assert size is not None  # asked only for budgets that need it
        found = size(space.build(blocks), measure)
        if progress:
            progress("networks exported", next(numbers), None)
        return found

    return export


def _first_fitting(
    networks: Sequence[Mixture], budgets: Sequence[Budget], export: Export
) -> Callable[[Sequence[int], int], list[int]]:
    """Return a function that returns the first ``number`` candidates of a ranking whose exported files fit."""
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
                f"{len(networks)} candidates are all larger; allowed: a slightly larger budget"
            )
        return found

    return first
