"""The section of a report on warm starts: how many epochs each one saved against the same student without it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from workflow.markup import Fragment, html_table, signed
from workflow.results import Results
from workflow.statistics import estimate

Curve = list[float]


def warm_starts(results: Results) -> Fragment:
    """A row per warm student and method; nothing where no student has a twin without the warm start.

    Saved: the epochs by which the warm student first reaches the error that its twin, of the same seed, ends with;
    negative, counted as one epoch more than there are, where it never does.
    """
    rows = [
        [
            escape(results.labels[warm]),
            escape(results.labels[cold]),
            escape(method),
            *_saved(results, warm, cold, method),
        ]
        for warm, cold in _twins(results)
        for method in results.methods
        if method != "scratch"
    ]
    if not rows:
        return Fragment("")
    note = (
        '<p class="note">Epochs saved: how much earlier the warm student reaches the error that the same student, seed '
        "and method ends with from a cold start (validation error; training error where a study has no validation "
        "split). Mean over seeds with its 95 % interval. −1 stands for never. A schedule that lowers its rate to the "
        "end keeps early errors high, whatever the start.</p>"
    )
    header = ["Warm student", "Twin", "Method", "Epochs saved", "Final error, warm − cold (points)"]
    return Fragment("<h2>Warm start</h2>" + html_table(header, rows, 3) + note)


def _twins(results: Results) -> Iterator[tuple[str, str]]:
    """(warm, cold) students that differ in nothing but the warm start."""
    settings: dict[str, dict[str, Any]] = {}
    for run in results.runs:
        if run.method not in ("teacher", "scratch") and run.student not in settings:
            settings[run.student] = dict(results.config(run).get("student") or {})
    cold = {name: found for name, found in settings.items() if not found.get("warm_start")}
    for warm, found in settings.items():
        if found.get("warm_start"):
            bare = {key: value for key, value in found.items() if key != "warm_start"}
            yield from ((warm, twin) for twin, other in cold.items() if other == bare)


def _saved(results: Results, warm: str, cold: str, method: str) -> list[str]:
    ours, theirs = _curves(results, warm, method), _curves(results, cold, method)
    seeds = sorted(ours.keys() & theirs.keys())
    planned = sum((run.student, run.method) == (warm, method) for run in results.runs)
    short = f"<br><small>{len(seeds)} of {planned} seeds</small>" if len(seeds) < planned else ""
    saved = [_epochs_saved(ours[seed], theirs[seed]) for seed in seeds]
    final = [ours[seed][-1] - theirs[seed][-1] for seed in seeds]
    return [_interval(saved) + short, _interval(final) + short]


def _epochs_saved(warm: Curve, cold: Curve) -> float:
    reached = next((epoch for epoch, error in enumerate(warm) if error <= cold[-1]), len(cold))
    return float(len(cold) - 1 - reached)


def _curves(results: Results, student: str, method: str) -> dict[str, Curve]:
    """Error by epoch for each seed that ended well: one that diverged ends early, and with the error of chance."""
    finished = {(run.student, run.method, str(run.seed)) for run in results.count("completed")}
    found: dict[str, Curve] = {}
    for row in results.curves:
        key = (row["student"], row["method"], row["seed"])
        if key[:2] == (student, method) and key in finished:
            error = row["validation_error_pct"] or row["train_error_pct"]
            found.setdefault(row["seed"], []).append(float(error))
    return found


def _interval(values: list[float]) -> str:
    result = estimate(values)
    if result.mean is None:
        return "–"
    return signed(result.mean) + (f" ± {result.half_width:.2f}" if result.half_width is not None else "")
