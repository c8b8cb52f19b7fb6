"""A run that is shown while its node trains, and the ways in which showing it may fail without harm."""

from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moonshine_workflow.tracking import live
from moonshine_workflow.tracking.live import Live
from moonshine_workflow.tracking.store import log_node, open_store
from tests.workflow.tracking.finished_nodes import (
    active,
    config,
    enter,
    identity,
    points,
    rows,
    write_node,
    write_timings,
)

PATIENCE = 90  # seconds: the machine may be busy


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    return tmp_path


def wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    pytest.fail(f"nothing came within {PATIENCE} s")


def serve(*messages: dict[str, Any]) -> dict[str, Any]:
    """The helper's work, done in this process on messages that are all there."""
    read, write = os.pipe()
    os.write(write, b"".join(live._line(message) for message in messages))
    os.close(write)
    try:
        return live._serve(read)
    finally:
        os.close(read)


def start(uri: str) -> dict[str, Any]:
    return {"identity": identity().content(), "config": config(), "uri": uri}


def test_a_long_run_is_shown_and_then_completed(here: Path) -> None:
    store = open_store("digits")
    log_node(write_node(here / "node", identity(), error=9.0), experiment="digits", timings=None)
    shown = Live(identity(), config(), after=0, every=0)
    shown.epoch(rows()[0])
    shown.epoch(rows()[1] | {"kd": None})
    run = wait_for(
        lambda: [run for run in active(store) if run.data.metrics.get("loss") == rows()[1]["loss"]]
    )[0]
    assert (run.info.status, run.info.run_name) == ("RUNNING", "G(4) at seed 0")
    assert len(active(store)) == 1, "the node's earlier run is replaced"
    write_node(here / "node", identity())
    run_id = shown.close(here / "node", write_timings(here / "t.json"), wait=PATIENCE)
    assert run_id is not None
    assert run_id == run.info.run_id
    assert [(r.info.run_id, r.info.status) for r in active(store)] == [(run_id, "FINISHED")]
    for metric in ("lr", "loss", "at", "train_error_pct", "validation_error_pct"):
        assert points(store, run_id, metric) == [(row["epoch"], row[metric]) for row in rows()]
    assert log_node(here / "node", experiment="digits", timings=None) == run_id


def test_a_run_that_hangs_is_left_in_time_and_logged_later(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_node(here / "node", identity())
    shown = Live(identity(), config(), after=0, every=0)
    shown.epoch(rows()[0])
    wait_for(lambda: [run for run in active(open_store("digits")) if "loss" in run.data.metrics])
    with sqlite3.connect(here / "mlflow.db") as blocker:
        blocker.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        shown.epoch(rows()[1])
        assert time.monotonic() - begun < 0.5
        assert shown.close(here / "node", wait=0.5) is None
        assert time.monotonic() - begun < 5
        blocker.rollback()
    assert "mlflow.db did not answer within 0.5 s" in caplog.text
    run_id = log_node(here / "node", experiment="digits", timings=None)
    store = open_store("digits")
    assert [run.info.run_id for run in active(store)] == [run_id]
    assert points(store, run_id, "loss") == [(row["epoch"], row["loss"]) for row in rows()]


def test_a_server_that_is_down_costs_one_warning(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    caplog.set_level(logging.WARNING)
    shown = Live(identity(), config(), after=0, every=0, tracking_uri=uri)

    def warned() -> bool:
        shown.epoch(rows()[0])
        return bool(caplog.records)

    wait_for(warned)
    shown.epoch(rows()[1])
    assert shown.close(write_node(here / "node", identity())) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"MLflow at {uri}: [Errno 111] Connection refused" in caplog.text


def test_short_runs_start_no_process(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    with Live(identity(), config(), after=3600) as shown:
        for row in rows():
            shown.epoch(row)
        assert shown.close(write_node(here / "node", identity())) is None


def test_a_run_that_ends_while_mlflow_loads_does_not_wait(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = Live(identity(), config(), after=0)
    shown.epoch(rows()[0])
    begun = time.monotonic()
    assert shown.close(write_node(here / "node", identity()), wait=PATIENCE) is None
    assert time.monotonic() - begun < 2
    assert caplog.text == ""


def test_a_process_that_cannot_start_costs_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    shown = Live(identity(), config(), after=0)
    for row in rows():
        shown.epoch(row)
    assert shown.close() is None
    assert caplog.text.count("Resource temporarily unavailable") == 1


def test_training_never_waits_for_a_helper_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **settings: popen(["sleep", "60"], **settings))
    shown = Live(identity(), config(), after=0, every=0)
    begun = time.monotonic()
    for row in rows(3000):  # several times what a pipe holds
        shown.epoch(row)
    assert shown.close() is None
    assert time.monotonic() - begun < 5


def test_a_killed_node_leaves_a_run_that_says_so(here: Path) -> None:
    uri = f"sqlite:///{here / 'mlflow.db'}"
    assert serve(start(uri), {"row": rows()[0]}) == {}
    run = active(open_store("digits"))[0]
    assert (run.info.status, run.data.metrics["loss"]) == ("KILLED", rows()[0]["loss"])


def test_a_resumed_node_may_give_only_its_later_epochs(here: Path) -> None:
    uri = f"sqlite:///{here / 'mlflow.db'}"
    folder = str(write_node(here / "node", identity()))
    serve(start(uri), {"row": rows()[0]}, {"row": rows()[1]})
    done = serve(start(uri), {"row": rows()[3]}, {"folder": folder, "timings": None})
    store = open_store("digits")
    assert [run.info.run_id for run in active(store)] == [done["run_id"]]
    assert points(store, done["run_id"], "loss") == [(row["epoch"], row["loss"]) for row in rows()]


def test_messages_that_arrive_in_pieces(here: Path) -> None:
    read, write = os.pipe()
    messages = b"".join(live._line({"row": {"epoch": n}}) for n in range(3))
    found = live._batches(read)
    os.write(write, messages[:5])
    os.write(write, messages[5:25])
    first = next(found)
    os.write(write, messages[25:])
    os.close(write)
    assert first + [message for batch in found for message in batch] == [
        json.loads(m) for m in messages.splitlines()
    ]
    os.close(read)
