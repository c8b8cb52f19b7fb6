"""Ranking of the students that fit the budget, by validation error.

`moonshine_workflow.stages.shipping` tries their files in this order. The test set plays no part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from moonshine.config.networks import Ship
from moonshine.costs.budgets import Budget, parse_budgets
from moonshine.json_model import JsonModel
from moonshine_workflow.tables.rows import Model, Run
from moonshine_workflow.tables.statistics import estimate

Status = Literal[
    "not asked", "no validation", "nothing trained", "nothing fits", "not accurate enough", "ranked"
]


@dataclass(frozen=True)
class Candidate:
    """Student trained with a method: its sizes in the budgets' measures, its validation error in percent.

    ``seed`` has the lowest validation error, ``seed_validation_pct``, and is the network that would ship. ``seeds``
    counts the runs that completed, ``diverged`` those that did not. Of compressed students, the size of ``network.dc``
    is that of the largest seed's.
    """

    student: str
    method: str
    seed: int | None
    sizes: dict[str, int | float]
    fits: bool
    validation_pct: float | None
    validation_half_width: float | None
    seeds: int
    seed_validation_pct: float | None = None
    diverged: int = 0

    @property
    def best_seed(self) -> int:
        """Return ``seed``, which every ranked candidate has."""
        assert self.seed is not None
        return self.seed


class ShippingChoice(JsonModel):
    """Content of ``choice.json``: the candidates that may ship, ``ranked`` best first.

    If there is none, ``nearest`` came closest and ``status`` says why it may not ship. ``teacher_sizes`` are the
    teacher's values of the budgets' measures.
    """

    status: Status
    budgets: tuple[str, ...] = ()
    allowed_error_pct: float | None = None
    ranked: tuple[Candidate, ...] = ()
    nearest: Candidate | None = None
    teacher_fits: bool = False
    teacher_sizes: dict[str, int | float] = Field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()


def rank_candidates(
    ship: Ship | None,
    models: Sequence[Model],
    runs: Sequence[Run],
    sizes: Mapping[str, Mapping[str, float]],
) -> ShippingChoice:
    """Rank a study's students for shipping; ``sizes`` maps each of them, and ``teacher``, to its size by measure.

    A network that is less accurate than allowed is not ranked, whatever the mean over its seeds. ``nearest`` is the
    student that exceeds the budget least if nothing fits, and the most accurate network that fits if none of those is
    accurate enough.
    """
    if ship is None:
        return ShippingChoice(status="not asked")
    budgets = parse_budgets(ship.budget)
    found = [
        _candidate(model.student, method, runs, sizes.get(model.student, {}), budgets)
        for model in models
        if model.student != "teacher"
        for method in dict.fromkeys(run.method for run in runs if run.student == model.student)
    ]
    about: dict[str, Any] = {
        "budgets": tuple(map(str, budgets)),
        "allowed_error_pct": ship.allowed_error_pct,
        "teacher_fits": _excess(sizes.get("teacher", {}), budgets) <= 1,
        "teacher_sizes": _limited(sizes.get("teacher", {}), budgets),
        "candidates": tuple(found),
    }
    judged = [each for each in found if each.validation_pct is not None]
    if not judged:
        trained = any(run.status == "completed" for run in runs if run.student != "teacher")
        return ShippingChoice(status="no validation" if trained else "nothing trained", **about)
    fitting = sorted((each for each in judged if each.fits), key=_rank)
    if not fitting:
        nearest = min(judged, key=lambda each: (_excess(each.sizes, budgets), _rank(each)))
        return ShippingChoice(status="nothing fits", nearest=nearest, **about)
    allowed = float("inf") if ship.allowed_error_pct is None else ship.allowed_error_pct
    ranked = tuple(each for each in fitting if _error_of_best_seed(each) <= allowed)
    if not ranked:
        nearest = min(fitting, key=_error_of_best_seed)
        return ShippingChoice(status="not accurate enough", nearest=nearest, **about)
    return ShippingChoice(status="ranked", ranked=ranked, **about)


def _candidate(
    student: str, method: str, runs: Sequence[Run], sizes: Mapping[str, float], budgets: Sequence[Budget]
) -> Candidate:
    mine = [run for run in runs if (run.student, run.method) == (student, method)]
    own = [
        (run.validation_error_pct, run.seed)
        for run in mine
        if run.status == "completed" and run.validation_error_pct is not None
    ]
    validation = estimate(error for error, _ in own)
    if compressed := [run.compressed_bytes for run in mine if run.compressed_bytes is not None]:
        sizes = {**sizes, "dc": max(compressed)}
    return Candidate(
        student,
        method,
        min(own)[1] if own else None,
        _limited(sizes, budgets),
        _excess(sizes, budgets) <= 1,
        validation.mean,
        validation.half_width,
        validation.n,
        min(own)[0] if own else None,
        sum(run.status == "diverged" for run in mine),
    )


def _limited(sizes: Mapping[str, float], budgets: Sequence[Budget]) -> dict[str, float]:
    return {budget.measure: sizes[budget.measure] for budget in budgets if budget.measure in sizes}


def _excess(sizes: Mapping[str, float], budgets: Sequence[Budget]) -> float:
    """Return the largest ratio of size to budget: above 1 the network does not fit; infinite if not measured."""
    return max(sizes.get(budget.measure, float("inf")) / budget.limit for budget in budgets)


def _rank(candidate: Candidate) -> tuple[bool, float, float]:
    """Return a sort key: students without a diverged seed first (survivors flatter the mean), then error, then size."""
    error = candidate.validation_pct
    return (
        candidate.diverged > 0,
        float("inf") if error is None else error,
        sum(candidate.sizes.values()),
    )


def _error_of_best_seed(candidate: Candidate) -> float:
    error = candidate.seed_validation_pct
    return float("inf") if error is None else error
