"""Content of a trained node's MLflow run: name, parameters and metrics, from the node's files; needs no MLflow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moonshine.errors import MoonshineError
from moonshine.files import interpreted, read_csv, read_json, sha256
from moonshine.json_model import JsonModel
from moonshine.structures.structure import MIXED
from moonshine_workflow.graph.metrics import Metrics, RunIdentity

FILES = ("metrics.json", "history.csv", "config.json", "structure.json")

MetricPoint = tuple[str, float, int]
"""Name, value and epoch."""


@dataclass(frozen=True)
class TrainedNode:
    """Files of a finished node; ``history`` has a row per epoch, ``key`` identifies the result."""

    folder: Path
    metrics: Metrics
    config: dict[str, Any]
    history: tuple[dict[str, float], ...]
    key: str

    @property
    def name(self) -> str:
        return self.metrics.node


class RunningNode(JsonModel):
    """State of a node that trains: ``rows`` as its ``history.csv`` will have them, ``config`` as its ``config.json``.

    ``started`` is in seconds since 1970.
    """

    identity: RunIdentity
    config: dict[str, Any]
    started: float
    rows: tuple[dict[str, float], ...]


def read_node(folder: Path) -> TrainedNode:
    """Read a trained node's folder. Raises MoonshineError naming a missing or malformed file."""
    metrics, config = Metrics.read(folder / "metrics.json"), read_json(folder / "config.json")
    with interpreted(folder / "config.json"):
        flat_params(metrics, config)
    for name in FILES:
        if not (folder / name).is_file():
            raise MoonshineError(f"{folder / name}: no such file")
    hashes = (sha256(folder / name) for name in ("config.json", "metrics.json", "history.csv"))
    key = hashlib.sha256("\n".join([metrics.node, *hashes]).encode()).hexdigest()
    return TrainedNode(folder, metrics, config, tuple(_rows(folder / "history.csv")), key)


def _rows(path: Path) -> Iterator[dict[str, float]]:
    for number, row in enumerate(read_csv(path), start=2):
        try:
            numbers = {name: float(value) for name, value in row.items() if value != ""}
            yield numbers | {"epoch": int(row["epoch"])}
        except (KeyError, TypeError, ValueError):
            raise MoonshineError(f"{path}, line {number}: not a row of numbers with an epoch") from None


def label(identity: RunIdentity) -> str:
    """Return a label for legends, such as ``G(4) at``; ordinary networks go by network, mixed students by key."""
    by_network = identity.block == "S" or identity.student == "teacher"
    by_block = identity.student if identity.block == MIXED else identity.block
    return f"{identity.network if by_network else by_block} {identity.method}"


def flat_params(identity: RunIdentity, config: Mapping[str, Any]) -> dict[str, str]:
    """Return a node's parameters, one column each: ``block``, ``seed``, ``epochs``, ``lr``, ``at_beta``, ...

    ``config`` is the node's ``config.json``.
    """
    training = dict(config.get("training") or {})
    schedule, optimizer = training.pop("schedule", None) or {}, training.pop("optimizer", None) or {}
    found = {**training, **optimizer, **(config.get("augment") or {})}
    found |= {f"schedule_{name}": value for name, value in schedule.items()}
    method = config.get("method")
    for term, settings in method.items() if isinstance(method, Mapping) else ():
        if isinstance(settings, Mapping):
            found |= {f"{term}_{name}": value for name, value in settings.items()}
    found |= {name: getattr(identity, name) for name in ("student", "network", "block", "method", "seed")}
    return {name: str(value) for name, value in sorted(found.items()) if value is not None}


TEST = ("error_pct", "loss", "top5_error_pct", "miou_pct", "pixel_error_pct")
"""Test metrics that are logged, besides the IoU of each class."""


def _plain(name: str) -> str:
    return re.sub(r"[^\w. -]", "_", name)


def final_points(node: TrainedNode, timings: Mapping[str, Any]) -> list[MetricPoint]:
    """Return a node's final values: errors in percent, parameters, MACs, weights in megabytes (10^6 bytes), seconds.

    They are metrics, not parameters, so that the UI sorts them as numbers and can plot one against another.
    """
    metrics, weights = node.metrics, node.folder / "weights.safetensors"
    found: dict[str, float | None] = {"parameters": metrics.parameters, "macs": metrics.macs}
    if metrics.test:
        found |= {f"test_{name}": getattr(metrics.test, name) for name in TEST}
        # MLflow groups names by the part before a slash and allows no other characters than these
        found |= {f"test_iou_pct/{_plain(name)}": iou for name, iou in metrics.test.iou_pct.items()}
    if metrics.validation and not any("validation_error_pct" in row for row in node.history):
        found["validation_error_pct"] = metrics.validation.error_pct
    if weights.is_file():
        found["megabytes"] = weights.stat().st_size / 1e6
    found |= {name: timings.get(name) for name in ("epoch_seconds", "seconds")}
    return [(name, float(value), 0) for name, value in found.items() if value is not None]


def epoch_points(rows: Sequence[Mapping[str, float | None]]) -> list[MetricPoint]:
    """Return all values of a history; a term that is inactive in an epoch has no point there."""
    return [
        (name, value, int(epoch))
        for row in rows
        if (epoch := row["epoch"]) is not None
        for name, value in row.items()
        if name != "epoch" and value is not None
    ]
