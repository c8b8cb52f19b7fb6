"""What a report says of how its results came about: data, recipe, seeds, versions, time."""

from __future__ import annotations

from html import escape
from statistics import median
from typing import Any

from moonshine.budgets import SPREAD
from workflow.markup import Fragment, html_table, listed, number, plural
from workflow.records import Run
from workflow.results import Results


def facts(results: Results) -> Fragment:
    """What was run: data and its checksums, recipe, methods, seeds, versions."""
    data = results.dataset
    rows: list[tuple[str, str]] = []
    if data:
        counts = ", ".join(f"{count:,} {split}" for split, count in data["counts"].items())
        shape = f"{data['channels']} × {data['height']} × {data['width']}"
        rows.append(("Data", f"{escape(data['name'])}: {escape(str(data['source']))}"))
        rows.append(("Images", f"{counts}; {shape}; {data['num_classes']} classes"))
        rows.extend((f"SHA-256, {escape(name)}", _checksum(value)) for name, value in data["sha256"].items())
    seeds = sorted({run.seed for run in results.runs if run.student != "teacher"})
    teacher = results.runs[0]
    rows.append(("Seeds", f"{listed([str(seed) for seed in seeds])}; teacher {teacher.seed}"))
    config = results.config(teacher)
    for name in ("training", "augment", "runtime"):
        if name in config:
            rows.append((name.capitalize(), escape(_settings(config[name]))))
    for method in results.methods:
        run = next((run for run in results.runs if run.method == method and run.status != "missing"), None)
        settings = results.config(run).get("method") if run else None
        if isinstance(settings, dict):
            rows.append((f"Method {escape(method)}", escape(_settings(settings))))
    versions = {_settings(timing["versions"]) for timing in results.timings.values() if "versions" in timing}
    rows.extend(("Versions", escape(version)) for version in sorted(versions))
    cells = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return Fragment(f'<table class="facts"><tbody>{cells}</tbody></table>')


def _checksum(value: Any) -> str:
    if isinstance(value, dict):
        return "<br>".join(f"{escape(str(name))}: {_checksum(one)}" for name, one in value.items())
    return f"<code>{escape(str(value))}</code>"


def _settings(value: Any) -> str:
    """Nested settings on one line: ``epochs 12, optimizer (lr 0.1, momentum 0.9)``."""
    if isinstance(value, dict):
        parts = []
        for name, one in value.items():
            if one is not None:
                parts.append(
                    f"{name} ({_settings(one)})" if isinstance(one, dict) else f"{name} {_settings(one)}"
                )
        return ", ".join(parts)
    if isinstance(value, list):
        return "/".join(_settings(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def timings(results: Results) -> Fragment:
    """Wall time by kind of node, and latency; not part of what makes results comparable."""
    if not results.timings:
        return Fragment("<p>No timing files are left.</p>")
    groups: dict[str, list[dict[str, Any]]] = {}
    runs: dict[str, Run] = {run.node: run for run in results.runs}
    for node, timing in results.timings.items():
        run = runs.get(node)
        groups.setdefault(run.method if run else node.split("@")[0], []).append(timing)
    rows = []
    for name, found in groups.items():
        seconds = [timing["seconds"] for timing in found if timing.get("seconds") is not None]
        epochs = [timing["epoch_seconds"] for timing in found if timing.get("epoch_seconds")]
        places = {_place(timing) for timing in found}
        rows.append(
            [
                escape(name),
                escape("; ".join(sorted(places))),
                str(len(found)),
                number(median(seconds), digits=1) if seconds else "–",
                number(median(epochs), digits=2) if epochs else "–",
                number(sum(seconds), 60, 1),
            ]
        )
    header = ["Node", "Where", "Count", "Median (s)", "Epoch (s)", "Sum (min)"]
    return Fragment(html_table(header, rows, 2) + _latency(results))


def _place(timing: dict[str, Any]) -> str:
    named = [str(timing[key]) for key in ("host", "device", "precision") if key in timing]
    return ", ".join([*named, plural(timing["threads"], "thread")])


def _latency(results: Results) -> str:
    found = {node: timing for node, timing in results.timings.items() if timing.get("latency_ms")}
    rows, slower = [], []
    names = {f"measure@{results.study}-{row.model.student}": row.model.student for row in results.rows}
    names[f"measure-teacher@{results.study}"] = "teacher"
    teacher = found.get(f"measure-teacher@{results.study}", {}).get("latency_ms", {})
    batches = sorted({batch for timing in found.values() for batch in timing["latency_ms"]}, key=int)
    for node, timing in found.items():
        latency, label = timing["latency_ms"], escape(results.labels[names[node]])
        rows.append([label, *(number(latency.get(batch), digits=2) for batch in batches)])
        over = [
            batch
            for batch in batches
            if batch in latency and latency[batch] > (1 + SPREAD) * teacher.get(batch, float("inf"))
        ]
        if over:
            slower.append(f"{label} (batch {listed(over)})")
    if not rows:
        return ""
    header = ["Student", *(f"Batch {batch} (ms)" for batch in batches)]
    said = f"No student is slower than the teacher, by more than {SPREAD:.0%}."
    if slower:
        said = (
            f"Fewer MACs are not always less time: slower than the teacher, by more than {SPREAD:.0%}, are "
            f"{listed(slower)}."
        )
    place = escape("; ".join(sorted({_place(timing) for timing in found.values()})))
    return f"<h3>Latency</h3><p>Median of a forward pass on {place}. {said}</p>{html_table(header, rows, 1)}"
