"""MLflow store with one run per trained node, logged once from the files in the node's folder.

Importing MLflow and opening a store takes seconds of CPU time, so nodes that train do neither. Runs are made from their
files: by `moonshine_workflow.tracking.follow` while they train, by `moonshine_workflow.tracking.back_fill` afterwards.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from moonshine.errors import MoonshineError
from moonshine.files import read_json
from moonshine_workflow.graph.metrics import RunIdentity
from moonshine_workflow.tracking.runs import (
    FILES,
    MetricPoint,
    TrainedNode,
    epoch_points,
    final_points,
    flat_params,
    label,
)

SQLITE = "sqlite:///"
# MLflow would create a parent folder for everything after the plain prefix, so the driver is named.
QUOTED_SQLITE = "sqlite+pysqlite:///file:"
KEY, NODE = "moonshine.key", "moonshine.node"
COMPLETE = ("FINISHED", "FAILED")
MAX_BATCH = 1000  # MLflow's limit per call
LOCK_SECONDS = 120
# With MLflow's own settings a server that is down costs minutes, not seconds. Telemetry is off.
QUIET_MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class TrackingError(RuntimeError):
    """Store that does not answer. Callers log a warning and go on: the run is back-filled later."""


@dataclass(frozen=True)
class RunStore:
    """Open store with the experiment of its runs; ``client`` is an ``mlflow.MlflowClient``."""

    client: Any
    experiment_id: str
    uri: str


def resolve_uri(uri: str | None = None) -> str:
    """Return the store's address: the one given, else MLFLOW_TRACKING_URI, else ``mlflow.db`` in this directory."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(Path.cwd() / "mlflow.db")


def sqlite_uri(database: Path) -> str:
    """Return the URI of an SQLite file; if the path has a '?', SQLite's own form of URI, with the path quoted."""
    path = str(database)
    return f"{QUOTED_SQLITE}{quote(path)}?uri=true" if "?" in path else f"{SQLITE}{path}"


def _sqlite_file(uri: str) -> Path | None:
    """Return the file of an SQLite store, None for any other store."""
    path = uri.partition("?")[0]
    if path.startswith(QUOTED_SQLITE):
        return Path(unquote(path.removeprefix(QUOTED_SQLITE)))
    return Path(path.removeprefix(SQLITE)) if path.startswith(SQLITE) else None


def is_remote(uri: str) -> bool:
    """Return whether a URI is that of a tracking server."""
    return uri.startswith(("http://", "https://"))


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn any failure (of MLflow, SQLAlchemy or the lock) into a TrackingError that names ``uri``."""
    try:
        yield
    except (MoonshineError, TrackingError):
        raise
    except Exception as error:
        raise TrackingError(f"MLflow at {uri}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return one line about an error: its root cause if that is the network, the file system or SQLite."""
    first = error
    while inner := first.__cause__ or first.__context__:
        first = inner
    said = first if isinstance(first, (OSError, sqlite3.Error)) else error
    return (str(said).strip() or type(said).__name__).splitlines()[0]


def open_store(experiment: str, uri: str | None = None) -> RunStore:
    """Open a store and find or create its experiment. Raises TrackingError.

    Two processes that create the tables of one SQLite file at the same time damage it for good, and so does a process
    that is killed half-way. So the first process creates them under another name, holding a lock.
    """
    uri = resolve_uri(uri)
    for name, value in QUIET_MLFLOW.items():
        os.environ.setdefault(name, value)
    with answering(uri):
        from filelock import FileLock
        from mlflow import MlflowClient

        logging.getLogger("alembic").setLevel(logging.WARNING)
        database = _sqlite_file(uri)
        with FileLock(f"{database}.lock", LOCK_SECONDS) if database else nullcontext():
            if database and not database.is_file():
                unfinished = database.with_name(f"{database.name}.new")
                unfinished.unlink(missing_ok=True)
                MlflowClient(tracking_uri=sqlite_uri(unfinished)).search_experiments(max_results=1)
                unfinished.replace(database)
            client = MlflowClient(tracking_uri=uri)
            # MLflow would take a plain path for a URL and put its files elsewhere
            artifacts = (Path.cwd() / "mlruns" / experiment).as_uri() if database else None
            return RunStore(client, _experiment_id(client, experiment, artifacts), uri)


def _experiment_id(client: Any, name: str, artifacts: str | None) -> str:
    from mlflow import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifacts))
        except MlflowException:
            # another client of the same server may have created it meanwhile
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def active_runs(store: RunStore, node: str | None = None) -> dict[str, list[Any]]:
    """Return the experiment's runs that are not deleted, by node; only those of ``node`` if it is given."""
    query = f"tags.`{NODE}` = '{node}'" if node else ""
    found: dict[str, list[Any]] = {}
    token: str | None = None
    with answering(store.uri):
        while True:
            page = store.client.search_runs([store.experiment_id], query, max_results=1000, page_token=token)
            for run in page:
                found.setdefault(run.data.tags.get(NODE, ""), []).append(run)
            token = page.token
            if not token:
                return found


def log_to(store: RunStore, node: TrainedNode, timings: Path | None, runs: Sequence[Any]) -> tuple[str, bool]:
    """Log a node unless it is logged already; return the run's id and whether it was written now.

    ``runs`` are the node's active runs. One that is complete and has this result is kept; all others are deleted.
    """
    kept = next((r for r in runs if r.data.tags.get(KEY) == node.key and r.info.status in COMPLETE), None)
    recorded = read_json(timings) if timings and timings.is_file() else {}
    with answering(store.uri):
        for run in runs:
            if run is not kept:
                store.client.delete_run(run.info.run_id)
        if kept:
            return str(kept.info.run_id), False
        run_id = start_run(store, node.metrics, node.config, _milliseconds(recorded.get("started")))
        _complete(store, node, recorded, run_id)
        return run_id, True


def start_run(store: RunStore, identity: RunIdentity, config: Mapping[str, Any], started: int) -> str:
    """Create a run with its name, tags and parameters (`flat_params`); ``started`` is in ms since 1970."""
    from mlflow.entities import Param

    tags = {NODE: identity.node, "label": label(identity), "status": "running"}
    tags |= {name: str(getattr(identity, name)) for name in RunIdentity.model_fields if name != "node"}
    name = f"{tags['label']} seed {identity.seed}"
    run_id = store.client.create_run(store.experiment_id, started, tags, name).info.run_id
    params = [Param(name, value) for name, value in flat_params(identity, config).items()]
    store.client.log_batch(run_id, params=params)
    return str(run_id)


def log_points(store: RunStore, run_id: str, points: Sequence[MetricPoint], when: int) -> None:
    """Log points in as few calls as MLflow allows; ``when`` is in ms since 1970.

    NaN and infinities of a diverged run are left to its ``history.csv``: MLflow would plot them as 1.8e308.
    """
    from mlflow.entities import Metric

    metrics = [Metric(name, value, when, epoch) for name, value, epoch in points if math.isfinite(value)]
    for first in range(0, len(metrics), MAX_BATCH):
        store.client.log_batch(run_id, metrics=metrics[first : first + MAX_BATCH])


def _complete(store: RunStore, node: TrainedNode, recorded: Mapping[str, Any], run_id: str) -> None:
    from mlflow.entities import RunTag

    finished, status = _milliseconds(recorded.get("finished")), node.metrics.status
    log_points(store, run_id, [*epoch_points(node.history), *final_points(node, recorded)], finished)
    tags = {name: recorded.get(name) for name in ("engine", "commit", "host", "device")}
    tags |= {KEY: node.key, "status": status}
    store.client.log_batch(run_id, tags=[RunTag(name, str(value)) for name, value in tags.items() if value])
    for name in FILES:
        store.client.log_artifact(run_id, str(node.folder / name))
    # last, because a run with a final status counts as complete
    store.client.set_terminated(run_id, "FAILED" if status == "diverged" else "FINISHED", finished)


def _milliseconds(moment: str | None) -> int:
    return int(1000 * (datetime.fromisoformat(moment).timestamp() if moment else time.time()))
