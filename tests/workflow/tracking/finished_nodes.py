"""Folders as finished training nodes leave them, and MLflow stores to log them to."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from moonshine_workflow.graph.metrics import RunIdentity
from moonshine_workflow.tracking.runs import read_node
from moonshine_workflow.tracking.store import RunStore, active_runs, log_to, open_store

EPOCHS = 4
STARTED, FINISHED = "2026-11-20T10:00:00+00:00", "2026-11-20T10:00:30+00:00"


def identity(student: str = "G4", method: str = "at", seed: int = 0, study: str = "digits") -> RunIdentity:
    stage = method if method in ("teacher", "scratch") else "distil"
    rest = {"teacher": "", "scratch": f"-{student}-{seed}"}.get(method, f"-{student}-{method}-{seed}")
    return RunIdentity(
        study=study,
        node=f"{stage}@{study}{rest}",
        student=student,
        network=student if student.startswith("wrn") else "wrn-16-2",
        block="S" if student == "teacher" or student.startswith("wrn") else "G(4)",
        method=method,
        seed=seed,
    )


def config(method: str = "at") -> dict[str, Any]:
    return {
        "seed": 0,
        "augment": {"crop_padding": 1, "flip": False},
        "training": {
            "epochs": EPOCHS,
            "batch_size": 128,
            "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False},
            "schedule": {"kind": "step", "drops": [2], "factor": 0.2},
            "precision": "auto",
        },
        "method": {"kd": None, "at": {"form": "released", "beta": 1000.0}} if method == "at" else None,
        "inputs": {"data": "0" * 64, "teacher": None},
    }


def rows(epochs: int = EPOCHS) -> list[dict[str, float]]:
    """Values with few digits, so that they read back from CSV as they were."""
    return [
        {"epoch": e, "lr": 0.5, "loss": 2.0 - e / 1024, "at": e / 4, "train_error_pct": 50.0 - e / 64}
        | {"validation_error_pct": 60.0 - e / 64}
        for e in range(epochs)
    ]


def write_node(
    folder: Path,
    who: RunIdentity,
    *,
    status: str = "completed",
    history: Any = None,
    error: float = 5.0,
) -> Path:
    """Write a node's files, and its timings beside the folder; gives the folder."""
    history = rows() if history is None else history
    folder.mkdir(parents=True, exist_ok=True)
    lines = [",".join(history[0]), *(",".join(str(value) for value in row.values()) for row in history)]
    (folder / "history.csv").write_text("\n".join(lines) + "\n")
    done = status == "completed"
    test = {"error_pct": error, "loss": 0.25, "examples": 450} if done else None
    metrics = {
        **who.content(),
        "status": status,
        "epochs_run": len(history),
        "parameters": 1234,
        "macs": 5678,
        "test": test,
    }
    (folder / "metrics.json").write_text(
        json.dumps({**metrics, "validation": {"error_pct": 7.0, "loss": 0.5}})
    )
    (folder / "config.json").write_text(json.dumps(config(who.method)))
    (folder / "structure.json").write_text(json.dumps({"network": who.network}))
    (folder / "weights.safetensors").write_bytes(b"0" * 5000)
    return folder


def write_timings(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    seconds = {"seconds": 30.0, "epoch_seconds": 7.5, "started": STARTED, "finished": FINISHED}
    path.write_text(json.dumps({**seconds, "engine": "snakemake", "commit": "abc", "device": "cpu"}))
    return path


def log_node(folder: Path, *, experiment: str = "digits", timings: Path | None = None) -> str:
    """Log one node to the default store; gives the run's id."""
    node, store = read_node(folder), open_store(experiment)
    return log_to(store, node, timings, active_runs(store, node.name).get(node.name, ()))[0]


@cache
def _empty_store() -> bytes:
    """A store's file with its tables: making them takes seconds, so tests copy one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        open_store("Default", f"sqlite:///{path}")
        return path.read_bytes()


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch, *, fresh: bool = False) -> None:
    """Work in ``folder``, where the default store is an empty one, or with ``fresh`` does not exist yet."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    if not fresh:
        (folder / "mlflow.db").write_bytes(_empty_store())


def active(store: RunStore) -> list[Any]:
    return list(store.client.search_runs([store.experiment_id], max_results=1000))


def points(store: RunStore, run_id: str, metric: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in store.client.get_metric_history(run_id, metric))
