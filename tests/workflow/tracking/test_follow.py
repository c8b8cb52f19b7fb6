"""Runs that are shown while their nodes train, and the ways in which nodes and servers end without harm."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from moonshine_workflow.graph import nodes
from moonshine_workflow.tracking.follow import Follower
from moonshine_workflow.tracking.runs import RunningNode
from moonshine_workflow.tracking.store import TrackingError, open_store, resolve_uri
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

NODE = nodes.distil("digits", "G4", "at", 0)


@pytest.fixture
def follower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Follower:
    enter(tmp_path, monkeypatch)
    return Follower(resolve_uri())


@contextmanager
def training() -> Iterator[None]:
    """As while the node trains."""
    NODE.work.mkdir(parents=True, exist_ok=True)
    with FileLock(NODE.work / "lock"):
        yield


def show(epochs: int, started: float = 1e9) -> None:
    """What the node shows after so many epochs."""
    shown = RunningNode(identity=identity(), config=config(), started=started, rows=tuple(rows(epochs)))
    shown.write(NODE.work / nodes.RUNNING)


def runs() -> list[tuple[str, float]]:
    """The state and the last loss of each run."""
    return [(run.info.status, run.data.metrics["loss"]) for run in active(open_store("digits"))]


def test_epochs_are_shown_as_they_come_and_the_finished_node_has_one_run(follower: Follower) -> None:
    with training():
        for epochs in (1, 3, 3):
            show(epochs)
            follower.look()
            assert runs() == [("RUNNING", rows()[epochs - 1]["loss"])]
        write_node(NODE.folder, identity())
        write_timings(NODE.timings)
    follower.look()
    follower.look()
    store = open_store("digits")
    (run,) = active(store)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "G(4) at seed 0")
    for metric in ("lr", "loss", "at", "train_error_pct", "validation_error_pct"):
        assert points(store, run.info.run_id, metric) == [(row["epoch"], row[metric]) for row in rows()]


def test_a_killed_node_is_shown_as_killed_until_it_goes_on(follower: Follower) -> None:
    with training():
        show(2)
        follower.look()
    follower.look()
    assert runs() == [("KILLED", rows()[1]["loss"])]
    with training():
        show(3, started=2e9)
        follower.look()
    assert runs() == [("RUNNING", rows()[2]["loss"])]


def test_a_node_that_starts_again_between_two_looks_has_one_run(follower: Follower) -> None:
    with training():
        show(3)
        follower.look()
        show(1, started=2e9)
        follower.look()
    assert runs() == [("RUNNING", rows()[0]["loss"])]


def test_a_run_that_was_deleted_is_made_again(follower: Follower) -> None:
    with training():
        show(1)
        follower.look()
        store = open_store("digits")
        store.client.delete_run(active(store)[0].info.run_id)
        show(2)
        with pytest.raises(TrackingError):
            follower.look()
        follower.look()
    assert runs() == [("RUNNING", rows()[1]["loss"])]


def test_a_server_that_is_down_is_an_error_and_what_is_missing_is_logged_later(follower: Follower) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        elsewhere = Follower(f"http://127.0.0.1:{free.getsockname()[1]}")
    with training():
        show(2)
        with pytest.raises(TrackingError, match="Connection refused"):
            elsewhere.look()
        elsewhere._uri = follower._uri
        elsewhere.look()
    assert runs() == [("RUNNING", rows()[1]["loss"])]
