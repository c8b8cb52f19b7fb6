"""One MLflow run per node: complete, once, in place of what was there before; and stores that misbehave."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from moonshine.errors import MoonshineError
from moonshine_workflow.graph import stage
from moonshine_workflow.tracking.runs import read_node
from moonshine_workflow.tracking.store import TrackingError, open_store
from tests.messages import naming
from tests.workflow.clones import CODE
from tests.workflow.tracking.finished_nodes import (
    EPOCHS,
    active,
    enter,
    identity,
    log_node,
    points,
    rows,
    write_node,
    write_timings,
)

FOUR = """
import os, sys, time
from pathlib import Path
from moonshine_workflow.tracking.store import QUIET_MLFLOW
from tests.workflow.tracking.finished_nodes import log_node
os.environ |= QUIET_MLFLOW
# All that is imported on the way, so that it is imported once and not four times; no store is opened.
import mlflow.store.artifact.local_artifact_repo, mlflow.store.db.utils, mlflow.store.tracking.sqlalchemy_store
go = time.time() + 1
children = []
for seed in range(4):
    pid = os.fork()
    if pid == 0:
        time.sleep(max(0, go - time.time()))
        try:
            log_node(Path(f"node{seed}"))
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(pid)
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in children))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    return tmp_path


def test_a_run_holds_everything_that_the_node_left(here: Path) -> None:
    folder = write_node(here / "node", identity())
    run_id = log_node(folder, timings=write_timings(here / "t.json"))
    store = open_store("digits")
    run = store.client.get_run(run_id)
    assert run.info.run_name == "G(4) at seed 0"
    assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "completed")
    assert run.info.end_time - run.info.start_time == 30_000
    for metric in ("lr", "loss", "at", "train_error_pct", "validation_error_pct"):
        assert points(store, run_id, metric) == [(row["epoch"], row[metric]) for row in rows()]
    final = {
        "test_error_pct": 5.0,
        "test_loss": 0.25,
        "parameters": 1234.0,
        "macs": 5678.0,
        "megabytes": 0.005,
    }
    final |= {"seconds": 30.0, "epoch_seconds": 7.5}
    assert {name: run.data.metrics[name] for name in final} == final
    tags = {
        "study": "digits",
        "student": "G4",
        "network": "wrn-16-2",
        "block": "G(4)",
        "method": "at",
        "seed": "0",
    }
    tags |= {
        "label": "G(4) at",
        "engine": "snakemake",
        "commit": "abc",
        "moonshine.node": "distil@digits-G4-at-0",
    }
    assert {name: run.data.tags.get(name) for name in tags} == tags
    params = {"epochs": "4", "batch_size": "128", "lr": "0.1", "schedule_kind": "step", "at_beta": "1000.0"}
    params |= {"at_form": "released", "block": "G(4)", "method": "at", "flip": "False"}
    assert {name: run.data.params.get(name) for name in params} == params
    artifacts = {artifact.path for artifact in store.client.list_artifacts(run_id)}
    assert artifacts == {"metrics.json", "history.csv", "config.json", "structure.json"}
    found = store.client.search_runs([store.experiment_id], "tags.block = 'G(4)'")
    assert [run.info.run_id for run in found] == [run_id]


def test_the_store_and_its_files_lie_here_whatever_the_directory_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a b%20c#d?e"
    here.mkdir()
    enter(here, monkeypatch, fresh=True)
    run_id = log_node(write_node(here / "node", identity()))
    (artifacts,) = (here / "mlruns" / "digits").iterdir()
    assert artifacts.name == run_id
    assert len(list((artifacts / "artifacts").iterdir())) == 4
    (run,) = active(open_store("digits"))
    assert run.info.run_id == run_id
    assert sorted(path.name for path in tmp_path.iterdir()) == [here.name]
    made = {path.name for path in here.iterdir()}
    assert made == {"mlflow.db", "mlflow.db.lock", "mlruns", "node"}


def test_logging_twice_does_nothing_and_a_new_result_replaces_the_old_run(here: Path) -> None:
    folder = write_node(here / "node", identity())
    other = log_node(write_node(here / "other", identity(seed=1)))
    first = log_node(folder)
    assert log_node(folder) == first
    write_node(folder, identity(), error=4.0)
    second = log_node(folder)
    store = open_store("digits")
    assert {run.info.run_id for run in active(store)} == {second, other}
    assert store.client.get_run(second).data.metrics["test_error_pct"] == 4.0
    assert points(store, second, "loss") == [(row["epoch"], row["loss"]) for row in rows()]


def test_a_diverged_run_has_failed_and_keeps_its_finite_points(here: Path) -> None:
    history = [*rows(2), {**rows(3)[2], "loss": float("nan"), "at": float("inf")}]
    folder = write_node(here / "node", identity(), status="diverged", history=history)
    run_id = log_node(folder)
    store = open_store("digits")
    run = store.client.get_run(run_id)
    assert (run.info.status, run.data.tags["status"]) == ("FAILED", "diverged")
    assert "test_error_pct" not in run.data.metrics
    assert [step for step, _ in points(store, run_id, "loss")] == [0, 1]
    assert [step for step, _ in points(store, run_id, "lr")] == [0, 1, 2]
    assert log_node(folder) == run_id


def test_more_points_than_one_call_takes(here: Path) -> None:
    folder = write_node(here / "node", identity(), history=rows(250))
    run_id = log_node(folder)
    store = open_store("digits")
    for metric in ("loss", "validation_error_pct"):
        assert points(store, run_id, metric) == [(row["epoch"], row[metric]) for row in rows(250)]


def test_a_run_that_was_cut_short_is_replaced(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    folder = write_node(here / "node", identity())
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(TrackingError, match=naming("mlflow.db", "disk full")):
            log_node(folder)
    store = open_store("digits")
    assert [run.info.status for run in active(store)] == ["RUNNING"]
    run_id = log_node(folder)
    assert [run.info.run_id for run in active(store)] == [run_id]
    assert len(points(store, run_id, "loss")) == EPOCHS


def test_an_experiment_deleted_in_the_ui_comes_back_with_one_run_per_node(here: Path) -> None:
    folder = write_node(here / "node", identity())
    log_node(folder)
    write_node(folder, identity(), error=4.0)
    run_id = log_node(folder)
    store = open_store("digits")
    store.client.delete_experiment(store.experiment_id)
    assert log_node(folder) == run_id
    assert [run.info.run_id for run in active(store)] == [run_id]


def test_another_client_makes_the_experiment_first(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    looked: list[Any] = []

    def look(client: Any, name: str) -> Any:
        looked.append(name)
        return None if len(looked) == 1 else SimpleNamespace(experiment_id="7", lifecycle_stage="active")

    open_store("digits")  # so that making it again fails
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", look)
    assert open_store("digits").experiment_id == "7"


def test_four_processes_and_a_store_that_does_not_exist_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch, fresh=True)
    for seed in range(4):
        write_node(tmp_path / f"node{seed}", identity(seed=seed))
    # What a process that was killed while it made the tables leaves behind.
    (tmp_path / "mlflow.db.new").write_bytes(b"half a database")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FOUR],
        env={"PYTHONPATH": CODE},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    store = open_store("digits")
    assert sorted(int(run.data.tags["seed"]) for run in active(store)) == list(range(4))
    for run in active(store):
        assert run.info.status == "FINISHED"
        for metric in ("lr", "loss", "at", "train_error_pct", "validation_error_pct"):
            assert points(store, run.info.run_id, metric) == [(row["epoch"], row[metric]) for row in rows()]


def test_a_server_that_is_not_there_is_an_error_with_its_address_within_seconds(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    folder = write_node(here / "node", identity())
    import mlflow  # noqa: F401  (its import is not what is timed)

    begun = time.monotonic()
    with pytest.raises(TrackingError, match=naming(uri, "Connection refused")):
        log_node(folder)
    assert time.monotonic() - begun < 8


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", None, ["metrics.json", "no such file"]),
        ("structure.json", None, ["structure.json", "no such file"]),
        ("metrics.json", '{"node": "x', ["metrics.json", "damaged"]),
        ("metrics.json", '{"node": "x"}', ["metrics.json", "study", "missing"]),
        ("history.csv", "epoch,loss\n0,1.0\n1,abc\n", ["history.csv", "line 3"]),
        ("history.csv", "loss\n1.0\n", ["history.csv", "line 2", "epoch"]),
    ],
)
def test_a_malformed_folder_is_named_before_a_store_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | None, message: list[object]
) -> None:
    enter(tmp_path, monkeypatch, fresh=True)
    folder = write_node(tmp_path / "node", identity())
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(MoonshineError, match=naming(*message)):
        log_node(folder)
    assert not (tmp_path / "mlflow.db").exists()


def test_the_key_changes_with_each_file_that_makes_the_result(tmp_path: Path) -> None:
    folder = write_node(tmp_path / "node", identity())
    keys = {read_node(folder).key}
    for name in ("config.json", "metrics.json"):
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), "more": 1}))
        keys.add(read_node(folder).key)
    (folder / "history.csv").write_text("epoch,loss\n0,1.0\n")
    keys.add(read_node(folder).key)
    assert len(keys) == 4
    (folder / "structure.json").write_text("{}")
    assert read_node(folder).key in keys


def test_the_teacher_and_ordinary_networks_are_labelled_by_network(here: Path) -> None:
    store = open_store("digits")
    for who in (identity("teacher", "teacher"), identity("wrn-10-1", "scratch", 2)):
        log_node(write_node(here / who.student, who))
    assert {run.info.run_name for run in active(store)} == {
        "wrn-16-2 teacher seed 0",
        "wrn-10-1 scratch seed 2",
    }


def test_provenance_names_engine_and_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOONSHINE_ENGINE", "snakemake")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert stage.provenance() == {"engine": "snakemake", "commit": None}
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", "--allow-empty"],
    ):
        subprocess.run(["git", *command], check=True)
    monkeypatch.setenv("DVC_STAGE", "teacher@digits")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / "params.yaml").touch()  # a study is a file to edit
    assert stage.provenance() == {"engine": "dvc", "commit": head}
    (tmp_path / "moonshine").mkdir()
    (tmp_path / "moonshine" / "new.py").touch()
    assert stage.provenance() == {"engine": "dvc", "commit": f"{head}-dirty"}


def test_importing_costs_no_mlflow_and_no_torch() -> None:
    code = "import sys, moonshine_workflow.tracking.follow; "
    code += "print([m for m in ('mlflow', 'torch', 'pandas') if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": CODE},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "[]"
