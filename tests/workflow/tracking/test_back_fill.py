"""The back-fill of whole studies, and the views that it sets up."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from moonshine_workflow.tracking import back_fill as track
from moonshine_workflow.tracking.back_fill import back_fill, main, student_names
from moonshine_workflow.tracking.runs import read_node
from moonshine_workflow.tracking.store import open_store
from moonshine_workflow.tracking.views import COLUMNS, CURVES, NOTE, TAG_PREFIX, experiment_tags, views
from tests.workflow.clones import CODE
from tests.workflow.tracking.finished_nodes import active, enter, identity, write_node, write_timings

NAMES = {"G4": "G(4)", "wrn-10-1": "wrn-10-1"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    return tmp_path


def make_study(name: str = "digits") -> Path:
    """A teacher, two students and a node that is still training."""
    root = Path("results") / name
    write_node(root / "teacher", identity("teacher", "teacher", study=name))
    for student in NAMES:
        for method in ("scratch", "at"):
            write_node(root / "students" / student / method / "seed0", identity(student, method, study=name))
    write_timings(root / "timings" / f"teacher@{name}.json")
    (root / "students" / "G4" / "at" / "seed1").mkdir()
    return root


def test_a_study_is_logged_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_study()
    assert main(["digits"]) == 0
    store = open_store("digits")
    first = {run.info.run_id: run.data.tags["moonshine.node"] for run in active(store)}
    assert sorted(first.values()) == [
        "distil@digits-G4-at-0",
        "distil@digits-wrn-10-1-at-0",
        "scratch@digits-G4-0",
        "scratch@digits-wrn-10-1-0",
        "teacher@digits",
    ]
    teacher = next(run for run in active(store) if run.data.tags["student"] == "teacher")
    assert teacher.data.metrics["seconds"] == 30.0
    assert main(["digits"]) == 0
    assert {run.info.run_id for run in active(store)} == set(first)
    shown = capsys.readouterr().out
    assert "digits: 5 runs logged, 0 already in MLflow" in shown
    assert "digits: 0 runs logged, 5 already in MLflow" in shown


def test_only_a_changed_node_is_logged_again(here: Path) -> None:
    root = make_study()
    back_fill(root)
    write_node(root / "students" / "G4" / "at" / "seed0", identity(), error=1.0)
    done = back_fill(root)
    assert (done.logged, done.present) == (1, 4)
    assert len(active(open_store("digits"))) == 5


def test_every_study_is_logged_to_its_own_experiment(here: Path) -> None:
    make_study("one")
    make_study("two")
    assert main([]) == 0
    assert [len(active(open_store(name))) for name in ("one", "two")] == [5, 5]


def test_a_malformed_node_is_named_and_the_others_are_logged(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_study()
    (root / "teacher" / "metrics.json").write_text("{")
    assert main([]) == 2
    assert "results/digits/teacher/metrics.json: damaged" in capsys.readouterr().err
    assert len(active(open_store("digits"))) == 4


def test_a_server_that_is_down_is_a_warning(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    make_study()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert main(["digits"]) == 0
    assert f"warning: MLflow at {uri}: [Errno 111] Connection refused" in capsys.readouterr().err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert back_fill(Path("results/digits")).logged == 5


def test_a_study_without_results_opens_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(tmp_path, monkeypatch, fresh=True)
    assert main([]) == 0
    Path("results/digits/data").mkdir(parents=True)
    assert main(["digits"]) == 0
    assert "no trained node in results/ yet" in capsys.readouterr().out
    assert not Path("mlflow.db").exists()
    assert main(["cifar10"]) == 2
    assert "'cifar10' has no folder in results/; found: digits" in capsys.readouterr().err


def test_the_description_is_kept_up_to_date_until_the_user_writes_one(here: Path) -> None:
    root = make_study()
    back_fill(root)
    store = open_store("digits")

    def note() -> str:
        return str(store.client.get_experiment(store.experiment_id).tags[NOTE])

    assert "[Curves of wrn-10-1](#/experiments/" in note()
    write_node(root / "students" / "wrn-16-1" / "at" / "seed0", identity("wrn-16-1", "at"))
    back_fill(root)
    assert "Curves of G(4)" in note()
    own = "Look at G(4) first."
    store.client.set_experiment_tag(store.experiment_id, NOTE, own)
    back_fill(root)
    assert note() == own


def test_ui_prints_an_address_per_view_and_becomes_the_server(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_study()
    started: list[list[str]] = []
    followed: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))
    monkeypatch.setattr(subprocess, "Popen", lambda command: followed.append(command[1:]))
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "")
    monkeypatch.delenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        taken.listen()
        assert main(["--ui", "--port", port]) == 2
        assert f"--port {port}: cannot be opened" in capsys.readouterr().err
        assert not started
    assert main(["--ui", "--port", port]) == 0
    assert (
        f"http://127.0.0.1:{port}/#/experiments/1/runs?viewStateShareKey=curves-G4" in capsys.readouterr().out
    )
    assert os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert followed == [["-m", "moonshine_workflow.tracking.follow", f"sqlite:///{here / 'mlflow.db'}"]]
    assert started[0][1:4] == ["-m", "mlflow", "server"]
    assert started[0][started[0].index("--host") + 1] == "127.0.0.1"
    assert started[0][started[0].index("--backend-store-uri") + 1] == f"sqlite:///{here / 'mlflow.db'}"


def test_ui_of_a_server_elsewhere_is_linked_to_and_told_what_trains(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = back_fill(make_study())
    started: list[list[str]] = []

    def execute(_: str, command: list[str]) -> None:
        started.append(command[1:])
        raise SystemExit

    monkeypatch.setattr(os, "execv", execute)
    with pytest.raises(SystemExit):
        track.serve("https://mlflow.example/", 5000, [done])
    assert started == [["-m", "moonshine_workflow.tracking.follow", "https://mlflow.example/"]]
    assert "https://mlflow.example/#/experiments/1/runs?" in capsys.readouterr().out


def test_students_of_one_block_go_by_their_keys(tmp_path: Path) -> None:
    def node(student: str, **changes: str) -> Path:
        return write_node(tmp_path / student, identity().model_copy(update={"student": student, **changes}))

    folders = [node("teacher"), node("a"), node("b", network="wrn-40-2"), node("c", block="B(2)")]
    assert student_names([read_node(folder) for folder in folders]) == {"a": "a", "b": "b", "c": "B(2)"}


def test_views_are_what_the_ui_reads_and_refer_to_what_runs_have(here: Path) -> None:
    back_fill(make_study())
    store = open_store("digits")
    tags = store.client.get_experiment(store.experiment_id).tags
    shared = {
        name.removeprefix(TAG_PREFIX): value for name, value in tags.items() if name.startswith(TAG_PREFIX)
    }
    assert set(shared) == {
        "students-by-test-error",
        "error-against-parameters",
        "curves-G4",
        "curves-wrn-10-1",
    }
    run = active(store)[0]
    known = {f"metrics.`{name}`" for name in run.data.metrics} | {f"tags.`{name}`" for name in run.data.tags}
    assert set(COLUMNS) <= known
    for envelope in map(json.loads, shared.values()):
        state = json.loads(envelope["state"])
        assert state["orderByKey"] in known
        groups = (state["groupBy"] or {"groupByKeys": []})["groupByKeys"]
        assert {f"tags.`{group['groupByData']}`" for group in groups} <= known
        for chart in state["compareRunCharts"] or []:
            assert chart["metricSectionId"] == state["compareRunSections"][0]["uuid"]
            if chart["type"] == "SCATTER":
                assert {f"metrics.`{chart[axis]['key']}`" for axis in ("xaxis", "yaxis")} <= known
    curves = json.loads(json.loads(shared["curves-G4"])["state"])
    assert [chart["metricKey"] for chart in curves["compareRunCharts"]] == list(CURVES)
    found = store.client.search_runs([store.experiment_id], curves["searchFilter"])
    assert {run.data.tags["method"] for run in found} == {"scratch", "at"}


def test_views_come_in_the_order_of_the_menu_and_fit_into_tags() -> None:
    students = {f"student-{n}": f"BG({n},M/16)" for n in range(40)}
    found = views(students)
    tags = experiment_tags(found, "12")
    assert len({view.key for view in found}) == len(found) == 42
    assert max(map(len, tags.values())) < 20_000
    times = [json.loads(tags[TAG_PREFIX + view.key])["createdAt"] for view in found]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(("index", "mode"), [(0, "TABLE"), (1, "CHART"), (2, "CHART")])
def test_a_link_opens_its_view(index: int, mode: str) -> None:
    view = views({"kd+at_G-4": "G(4)"})[index]
    page, _, query = view.link("12", "http://here/").partition("?")
    assert page == "http://here/#/experiments/12/runs"
    assert parse_qs(query)["viewStateShareKey"] == [view.key]
    assert parse_qs(query)["compareRunsMode"] == [mode]


def test_it_runs_as_a_program(here: Path) -> None:
    command = [sys.executable, "-m", "moonshine_workflow.tracking.back_fill", "nope"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": CODE}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "error: study 'nope' has no folder in results/; found: none\n",
    )
