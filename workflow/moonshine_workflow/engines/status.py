"""Progress of a study: nodes done, running and left, and an estimate of the time left."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from moonshine import MoonshineError
from moonshine.config import Study
from moonshine.files import read_json, sha256
from moonshine.networks.sources import sources as checksums
from moonshine.structures.structure import Structure
from moonshine_workflow.engines.checksums import lost_data
from moonshine_workflow.engines.rules import cores
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.nodes import Node
from moonshine_workflow.graph.parameters import resolved_values
from moonshine_workflow.graph.stage import is_at_work
from moonshine_workflow.training.configuration import changed
from moonshine_workflow.training.progress_file import read_progress

STATES = ("done", "outdated", "running", "left")


@dataclass(frozen=True)
class NodeState:
    """State of a node; ``seconds`` is the estimated time left (None while nothing comparable was measured)."""

    node: Node
    state: str
    detail: str = ""
    seconds: float | None = 0.0


def survey(study: Study) -> list[NodeState]:
    """Return the state of every node, from files only; whether changed code causes a rerun is up to the engine."""
    measured, origins = _measured(study), _origins(study)
    return [_state(study, node, measured, origins) for node in nodes.all_nodes(study)]


def summary(states: list[NodeState], workers: int) -> dict[str, Any]:
    """Counts by state, and the time left on ``workers`` nodes at a time (None where nothing was measured yet)."""
    left = [state.seconds for state in states if state.state != "done"]
    known = [seconds for seconds in left if seconds is not None]
    counts = Counter(state.state for state in states)
    return {
        **{name: counts[name] for name in STATES},
        "seconds_left": None if len(known) < len(left) else sum(known) / workers,
        "workers": workers,
    }


def timings(study: Study) -> list[dict[str, Any]]:
    """Timings of the trained nodes that are done."""
    return [_read(node.timings) for node in nodes.trained(study) if node.is_done()]


def workers(study: Study) -> int:
    """Return the number of nodes that this machine runs at a time."""
    return max(1, (os.cpu_count() or 1) // cores(study))


def _state(
    study: Study, node: Node, measured: dict[tuple[str | None, ...], float], origins: dict[str, str | None]
) -> NodeState:
    expected = _expected(node, measured)
    progress = read_progress(node.work / "progress.json")
    epoch, epochs = progress.get("epoch", 0), progress.get("epochs", 0)
    remaining = expected if not epochs or expected is None else expected * (1 - epoch / epochs)
    if not node.trains and is_at_work(node.work):
        return _searching(node, progress)
    if node.trains and is_at_work(node.work):
        pace = progress.get("epoch_seconds")
        return NodeState(
            node, "running", f"epoch {epoch} of {epochs}", pace * (epochs - epoch) if pace else remaining
        )
    lost = lost_data(study.study) if node.stage == "fetch" else None
    if node.is_done() or lost:
        other = _other(study, node, origins)
        return (
            NodeState(node, "outdated", f"other {', '.join(other)} since", expected)
            if other
            else NodeState(node, "done", lost or "")
        )
    detail = f"interrupted after epoch {epoch} of {epochs}" if epoch else ""
    return NodeState(node, "left", detail, remaining if node.trains else 0.0)


def _searching(node: Node, progress: dict[str, Any]) -> NodeState:
    if "what" not in progress:
        return NodeState(node, "running")
    done, expected = progress["done"], progress["expected"]
    if expected is None:
        return NodeState(node, "running", f"{done} {progress['what']}")
    left = progress["seconds_each"] * (expected - done)
    return NodeState(node, "running", f"{done} of {expected} {progress['what']}", left)


def _origins(study: Study) -> dict[str, str | None]:
    """Return the present checksums of the inputs of trained nodes, None where unknown."""
    fetch, weights = nodes.fetch(study.study), nodes.teacher(study.study).folder / "weights.safetensors"
    described = _read(fetch.folder / "dataset.json").get("sha256", {}).get("data.safetensors")
    return {
        "data": "due" if _data_changed(study, fetch) else described,
        "teacher": sha256(weights) if weights.is_file() else None,
    }


def _data_changed(study: Study, fetch: Node) -> bool:
    """Whether the data were prepared here from another ``data`` section; False for data prepared elsewhere."""
    made, description = _read(fetch.timings), fetch.folder / "dataset.json"
    if made.get("data") in (None, resolved_values(study)["data"]) or not description.is_file():
        return False
    return made.get("dataset") == sha256(description)


def _other(study: Study, node: Node, origins: dict[str, str | None]) -> list[str]:
    """Return the keys and inputs in which a finished node differs from the present study."""
    if node.stage == "fetch":
        return ["data"] if _data_changed(study, node) else []
    code = [] if _same_code(study, node) else ["code"]
    if not node.trains:
        return code
    made = _read(node.folder / "config.json")
    inputs = made.get("inputs", {})
    moved = [name for name, now in origins.items() if now and inputs.get(name) not in (None, now)]
    return list(dict.fromkeys([*changed(study, node, made), *moved, *code]))


def _same_code(study: Study, node: Node) -> bool:
    """Whether the user's own code that builds a finished node's network is unchanged."""
    is_structure = node.stage == "structure-teacher"
    paths = [path for path in node.outputs if is_structure or path.name == "structure.json"]
    with suppress(MoonshineError):  # of a module that is gone
        structure = Structure.read(paths[0]) if paths else None
        recorded = structure and structure.source_sha256
        return not structure or not recorded or recorded == checksums(structure.network)
    return False


def _measured(study: Study) -> dict[tuple[str | None, ...], float]:
    """Return median seconds of finished training nodes by stage, student and method, and by coarser keys."""
    samples: dict[tuple[str | None, ...], list[float]] = {}
    for node in nodes.trained(study):
        seconds = _read(node.timings).get("seconds")
        if seconds is not None and node.is_done():
            for key in _keys(node):
                samples.setdefault(key, []).append(seconds)
    return {key: statistics.median(values) for key, values in samples.items()}


def _expected(node: Node, measured: dict[tuple[str | None, ...], float]) -> float | None:
    if not node.trains:
        return 0.0
    return next((measured[key] for key in _keys(node) if key in measured), None)


def _keys(node: Node) -> list[tuple[str | None, ...]]:
    """Return keys from most to least similar: another seed, then another method, then another student."""
    return [(node.stage, node.student, node.method), (node.student,), (node.stage,), ()]


def _read(path: Any) -> dict[str, Any]:
    with suppress(MoonshineError):
        return read_json(path)
    return {}
