"""Report section on warm starts: how many epochs each saved against a cold start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moonshine_workflow.report.markup import Fragment, render
from moonshine_workflow.report.results import Results
from moonshine_workflow.tables.statistics import Estimate, estimate

Curve = list[float]


@dataclass(frozen=True)
class Saving:
    """What a warm start saved by a method, over the ``seeds`` of the study.

    ``saved``: the epochs by which the warm student first reaches the error that its twin, of the same seed, ends with;
    negative, counted as one epoch more than there are, where it never does. ``final``: the last error, warm minus cold.
    """

    warm: str
    cold: str
    method: str
    saved: Estimate
    final: Estimate
    seeds: int


def warm_starts(results: Results) -> Fragment:
    """Table of warm starts, a row per student and method; empty where no student has a twin without the warm start."""
    return render("warm_starts", "warm_starts", savings(results))


def savings(results: Results) -> list[Saving]:
    """Return the rows of that table."""
    return [
        _saved(results, warm, cold, method)
        for warm, cold in _pairs(results)
        for method in results.methods
        if method != "scratch"
    ]


def _pairs(results: Results) -> Iterator[tuple[str, str]]:
    """Yield pairs (warm, cold) of students that differ in nothing but the warm start."""
    settings: dict[str, dict[str, Any]] = {}
    for run in results.runs:
        if run.method not in ("teacher", "scratch") and run.student not in settings:
            settings[run.student] = dict(results.config(run).get("student") or {})
    cold = {name: found for name, found in settings.items() if not found.get("warm_start")}
    for warm, found in settings.items():
        if found.get("warm_start"):
            bare = {key: value for key, value in found.items() if key != "warm_start"}
            yield from ((warm, cold_name) for cold_name, other in cold.items() if other == bare)


def _saved(results: Results, warm: str, cold: str, method: str) -> Saving:
    warm_curves, cold_curves = _curves(results, warm, method), _curves(results, cold, method)
    seeds = sorted(warm_curves.keys() & cold_curves.keys())
    return Saving(
        warm=results.labels[warm],
        cold=results.labels[cold],
        method=method,
        saved=estimate(_epochs_saved(warm_curves[seed], cold_curves[seed]) for seed in seeds),
        final=estimate(warm_curves[seed][-1] - cold_curves[seed][-1] for seed in seeds),
        seeds=sum((run.student, run.method) == (warm, method) for run in results.runs),
    )


def _epochs_saved(warm: Curve, cold: Curve) -> float:
    reached = next((epoch for epoch, error in enumerate(warm) if error <= cold[-1]), len(cold))
    return float(len(cold) - 1 - reached)


def _curves(results: Results, student: str, method: str) -> dict[str, Curve]:
    """Return error by epoch for each completed seed: a diverged one ends early, and with the error of chance."""
    finished = {(run.student, run.method, str(run.seed)) for run in results.count("completed")}
    found: dict[str, Curve] = {}
    for row in results.curves:
        key = (row["student"], row["method"], row["seed"])
        if key[:2] == (student, method) and key in finished:
            error = row["validation_error_pct"] or row["train_error_pct"]
            found.setdefault(row["seed"], []).append(float(error))
    return found
