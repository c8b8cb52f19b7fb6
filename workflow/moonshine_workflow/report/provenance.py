"""Report section on provenance: data, recipe, seeds, versions, time."""

from __future__ import annotations

from statistics import median
from typing import Any

from moonshine.costs.budgets import SPREAD
from moonshine.structures.structure import Start, StudyStructure
from moonshine_workflow.graph import nodes
from moonshine_workflow.report.markup import Fragment, listed, number, plural, render
from moonshine_workflow.report.results import Results
from moonshine_workflow.report.teacher_batches import saved
from moonshine_workflow.training.configuration import resolved


def facts(results: Results) -> Fragment:
    """Table of what was run: data with checksums, recipe, methods, seeds, versions."""
    teacher = results.runs[0]
    config = results.config(teacher)
    rows = {"Seeds": f"{listed(results.seeds)}; teacher {teacher.seed}"}
    path = results.root / nodes.teacher(results.study).folder / "structure.json"
    if path.is_file() and (start := StudyStructure.read(path).start):
        rows["Teacher"] = _start(start)
    found = recipes(results)
    for recipe, networks in found.items():
        rows["Training" if len(found) == 1 else f"Training of {listed(networks)}"] = recipe
    for name in ("augment", "runtime"):
        if name in config:
            rows[name.capitalize()] = _settings(config[name])
    for method in results.methods:
        run = next((run for run in results.runs if run.method == method and run.status != "missing"), None)
        settings = results.config(run).get("method") if run else None
        if isinstance(settings, dict):
            rows[f"Method {method}"] = _settings(settings)
    versions = {_settings(timing["versions"]) for timing in results.timings.values() if "versions" in timing}
    trained = [results.timings[run.node] for run in results.runs if run.node in results.timings]
    if commits := sorted({timing["commit"] for timing in trained if timing.get("commit")}):
        rows["Code"] = f"commit {listed(commits)}"
    return render("provenance", "facts", results.dataset, rows, sorted(versions))


def _start(start: Start) -> str:
    """Return what a pretrained teacher started from, in words."""
    drawn = f"; {listed(start.drawn)} drawn anew for these classes" if start.drawn else ""
    frozen = f"; frozen: {listed(start.frozen)}" if start.frozen else ""
    return (
        f"{plural(start.loaded, 'tensor')} loaded from {start.weights}, SHA-256 {start.sha256}{drawn}{frozen}"
    )


def recipes(results: Results) -> dict[str, list[str]]:
    """Return the networks that each training recipe trained, by the recipe in words.

    A recipe that older code stored has the defaults of settings that came later.
    """
    found: dict[str, list[str]] = {}
    for run in results.runs:
        if (recipe := results.config(run).get("training")) is not None:
            networks = found.setdefault(_settings(resolved("training", recipe)), [])
            if (label := results.labels.get(run.student, run.student)) not in networks:
                networks.append(label)
    return found


def _settings(value: Any) -> str:
    """Format nested settings on one line: ``epochs 12, optimizer (lr 0.1, momentum 0.9)``."""
    if isinstance(value, dict):
        parts = []
        for name, one in value.items():
            if one is not None:
                parts.append(
                    f"{name} ({_settings(one)})" if isinstance(one, dict) else f"{name} {_settings(one)}"
                )
        return ", ".join(parts)
    if isinstance(value, list | tuple):
        return "/".join(_settings(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def timing_tables(results: Results) -> Fragment:
    """Tables of wall time by kind of node, and of latency; results do not depend on them."""
    groups: dict[str, list[dict[str, Any]]] = {}
    runs = {run.node: run for run in results.runs}
    for node, timing in results.timings.items():
        run = runs.get(node)
        groups.setdefault(run.method if run else node.split("@")[0], []).append(timing)
    rows = []
    for name, found in groups.items():
        seconds = [timing["seconds"] for timing in found if timing.get("seconds") is not None]
        epochs = [timing["epoch_seconds"] for timing in found if timing.get("epoch_seconds")]
        rows.append(
            [
                name,
                _places(found),
                str(len(found)),
                number(median(seconds), 1) if seconds else "–",
                number(median(epochs), 2) if epochs else "–",
                number(sum(seconds), 1, 60),
            ]
        )
    return render("provenance", "timings", rows, saved(results.timings.values()), SPREAD, **_latency(results))


def _places(timings: list[dict[str, Any]]) -> str:
    """Return the machines of these timings."""

    def place(timing: dict[str, Any]) -> str:
        named = [str(timing[key]) for key in ("host", "processor", "device", "precision") if key in timing]
        if "cores" in timing:
            named.append(plural(timing["cores"], "core"))
        return ", ".join([*named, plural(timing["threads"], "thread")])

    return "; ".join(sorted({place(timing) for timing in timings}))


def _latency(results: Results) -> dict[str, Any]:
    found = {node: timing for node, timing in results.timings.items() if timing.get("latency_ms")}
    rows, slower = [], []
    names = {f"measure@{results.study}-{row.model.student}": row.model.student for row in results.rows}
    names[f"measure-teacher@{results.study}"] = "teacher"
    teacher = found.get(f"measure-teacher@{results.study}", {}).get("latency_ms", {})
    batches = sorted({batch for timing in found.values() for batch in timing["latency_ms"]}, key=int)
    for node, timing in found.items():
        latency, label = timing["latency_ms"], results.labels[names[node]]
        rows.append([label, *(number(latency.get(batch), 2) for batch in batches)])
        over = [
            batch
            for batch in batches
            if batch in latency and latency[batch] > (1 + SPREAD) * teacher.get(batch, float("inf"))
        ]
        if over:
            slower.append(f"{label} (batch {listed(over)})")
    header = ["Student", *(f"Batch {batch} (ms)" for batch in batches)]
    return {"header": header, "latencies": rows, "slower": slower, "place": _places(list(found.values()))}
