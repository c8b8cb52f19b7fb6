"""Each stage as a program: what it leaves, that it leaves the same bytes again, and what it refuses."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from moonshine import files
from moonshine.config import load_study
from moonshine.costs.latency import threads_set_to
from moonshine_workflow.engines import rules as rule_helpers
from moonshine_workflow.graph import nodes, resolve, stage
from moonshine_workflow.graph.mistakes import USAGE_ERROR
from moonshine_workflow.graph.parameters import study_of_job
from moonshine_workflow.stages import fetch
from tests.messages import names
from tests.workflow import tiny
from tests.workflow.clones import CODE, PROJECT
from tests.workflow.quick_python import quick_python
from tests.workflow.running import STAGES, options, run


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below, those that record time apart."""
    found = (path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in found if not {"timings", "logs", ".work"} & set(path.relative_to(folder).parts)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def change(content: Callable[[dict[str, Any]], object]) -> None:
    """Edit params.yaml in place."""
    study = yaml.safe_load(Path("params.yaml").read_text())
    content(study)
    Path("params.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny.write_study(tmp_path)
    return tmp_path


@pytest.fixture
def finished(here: Path) -> Path:
    """Everything that G4 with AT needs, trained."""
    for command in (("fetch",), ("structure", "G4"), ("teacher",), ("distil", "G4", "at", "0")):
        assert run(*command) == 0
    return here / "results" / "tiny"


def test_every_stage_leaves_its_outputs_log_and_timing(here: Path) -> None:
    commands = [
        ("fetch",), ("measure",), ("structure", "G4"), ("measure", "G4"),
        ("teacher",), ("scratch", "G4", "0"), ("distil", "G4", "kd", "0"),
    ]  # fmt: skip
    for command in commands:
        assert run(*command) == 0
        node = STAGES[command[0]][1]("tiny", *command[1:])
        assert node.is_done(), node.name
        assert node.log.is_file()
        assert json.loads(node.timings.read_text())["node"] == node.name
        assert not list(node.work.glob("epoch-*"))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_computes_on_the_threads_of_the_study_whatever_the_engine_says(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake sets OMP_NUM_THREADS, DVC does not."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    ship = {"budget": "1MB", "allowed_error_pct": None, "calibration_images": 4, "logit_tolerance": 0.001}
    change(lambda study: study.update(ship=ship))
    seen = []

    def work(job: stage.Job) -> None:
        seen.append(torch.get_num_threads())

    make_node = STAGES[name][1]
    values = {"study": "tiny", "student": "G4", "method": "at", "seed": 0}
    node = make_node(**{name: values[name] for name in inspect.signature(make_node).parameters})
    with threads_set_to(3):
        assert stage.main(work, make_node, options(node)) == 0
    assert seen == [1 if node.computes else 3]


def test_snakemake_gives_a_rule_the_threads_that_its_stage_computes_on() -> None:
    rules = "".join(path.read_text() for path in (PROJECT / "workflow" / "rules").glob("*.smk"))
    threads = dict(re.findall(r"^rule (\w+):\n(?:    .*\n|\n)*?    threads: (.*)\n", rules, re.MULTILINE))
    assert {rule.replace("_", "-") for rule in threads} == {*STAGES, "measure-teacher", "examples"} - {
        "collect"
    }
    assert all("THREADS" in given or given == "STUDY.runtime.threads" for given in threads.values())


def test_what_a_trained_node_says_about_itself(finished: Path) -> None:
    folder = finished / "students" / "G4" / "at" / "seed0"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["node"] == "distil@tiny-G4-at-0"
    assert (metrics["network"], metrics["block"], metrics["method"], metrics["seed"]) == (
        "wrn-10-1",
        "G(4)",
        "at",
        0,
    )
    assert metrics["status"] == "completed"
    assert metrics["test"]["examples"] == 20
    assert 0 <= metrics["validation"]["error_pct"] <= 100
    history = (folder / "history.csv").read_text().splitlines()
    assert history[0].startswith("epoch,lr,loss,ce,at,train_error_pct")
    assert len(history) == 3
    config = json.loads((folder / "config.json").read_text())
    study = load_study()
    assert config["training"] == study.training.model_dump()
    assert config["method"] == study.methods["at"].model_dump()
    assert (
        config["inputs"]["data"]
        == json.loads((finished / "data/dataset.json").read_text())["sha256"]["data.safetensors"]
    )


def test_a_node_uses_the_study_that_snakemake_started_with(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_it_awkward(study: dict[str, Any]) -> None:
        study["students"]["10"] = {"block": "G(4)"}
        study["training"]["optimizer"] = {
            "kind": "adam",
            "lr": 1e-8,
            "betas": [0.9, 0.999],
            "eps": 1e-08,
            "weight_decay": 0,
        }

    change(make_it_awkward)
    study = load_study()
    monkeypatch.setenv(nodes.PARAMS_VARIABLE, "")
    rule_helpers.keep(study)
    assert study_of_job() == study
    assert [*study_of_job().students] == [*study.students]
    change(lambda study: study["students"].update({"10": {"block": "B(2)"}}))
    assert run("fetch") == run("structure", "10") == 0
    structure = json.loads(nodes.structure("tiny", "10").outputs[0].read_text())
    assert structure["block"] == "G(4)"


def test_a_node_uses_the_study_that_dvc_resolved(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study()
    resolve.refresh(study)
    change(lambda study: study["students"].update(G4={"block": "B(2)"}))
    monkeypatch.setenv(nodes.PARAMS_VARIABLE, "")
    monkeypatch.setenv("DVC_STAGE", "structure@tiny-G4")
    assert run("fetch") == run("structure", "G4") == 0
    assert study_of_job() == study
    assert json.loads(nodes.structure("tiny", "G4").outputs[0].read_text())["block"] == "G(4)"


def test_the_same_study_leaves_the_same_bytes(finished: Path) -> None:
    first = contents(finished)
    for path in [*finished.rglob("*.json"), *finished.rglob("*.csv"), *finished.rglob("*.safetensors")]:
        path.unlink()
    for command in (("fetch",), ("structure", "G4"), ("teacher",), ("distil", "G4", "at", "0")):
        assert run(*command) == 0
    assert contents(finished) == first


def test_a_killed_process_resumes_to_the_same_bytes(here: Path) -> None:
    change(lambda study: study["training"].update(epochs=20))
    assert run("fetch") == run("structure-teacher") == 0
    node = nodes.teacher("tiny")
    _, module, *options = node.command
    code = (
        f"import os, runpy; print(os.getpid(), flush=True); runpy.run_module({module!r}, run_name='__main__')"
    )
    process = subprocess.Popen(
        [quick_python(), "-c", code, *options],
        env={**os.environ, "PYTHONPATH": CODE},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    deadline = time.monotonic() + 600
    while (
        len(list(node.work.glob("epoch-*.json"))) < 2
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == 256 - signal.SIGKILL, "it ended before it could be killed"
    assert not node.is_done()
    assert run("teacher") == 0
    assert json.loads(node.timings.read_text())["resumed"] == 1
    resumed = contents(node.folder)
    for path in node.outputs:
        path.unlink()
    assert run("teacher") == 0
    assert json.loads(node.timings.read_text())["resumed"] == 0
    assert contents(node.folder) == resumed


@pytest.mark.parametrize("name", ["examples", "export"])
def test_a_stage_with_nothing_to_do_loads_no_torch_and_ends_as_python_does(name: str, here: Path) -> None:
    files.write_json(Path("results/tiny/choice.json"), {"status": "not asked"})
    code = f"""
import atexit, sys, threading, time
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.stages import {name}
atexit.register(lambda: print("torch" in sys.modules, end=""))
threading.Thread(target=lambda: (time.sleep(0.1), print("thread ended"))).start()
stage.program({name}.run, nodes.{name})
"""
    command = [sys.executable, "-c", code, "--study", "tiny"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": CODE}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "thread ended\nFalse"), done.stderr


def test_divergence_is_recorded_and_its_node_is_done(here: Path) -> None:
    change(lambda study: study["training"]["optimizer"].update(lr=1e6))
    for command in (("fetch",), ("structure", "G4"), ("scratch", "G4", "0")):
        assert run(*command) == 0
    node = nodes.scratch("tiny", "G4", 0)
    assert node.is_done()
    metrics = json.loads((node.folder / "metrics.json").read_text())
    assert metrics["status"] == "diverged"
    assert metrics["test"] is None
    assert metrics["epochs_run"] >= 1


def test_divergence_in_the_last_step_is_recorded(here: Path) -> None:
    def once(study: dict[str, Any]) -> None:
        study["training"].update(epochs=1, batch_size=64)
        study["training"]["optimizer"].update(lr=1e6)
        study["data"]["validation"] = 0

    change(once)
    for command in (("fetch",), ("structure", "G4"), ("scratch", "G4", "0")):
        assert run(*command) == 0
    metrics = json.loads((nodes.scratch("tiny", "G4", 0).folder / "metrics.json").read_text())
    assert (metrics["status"], metrics["test"]) == ("diverged", None)
    assert metrics["train"]["loss"] is not None


def test_a_diverged_teacher_is_an_error_that_says_what_to_lower(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(lambda study: study["training"]["optimizer"].update(lr=1e6))
    assert run("fetch") == 0
    assert run("teacher") != 0
    assert "training.optimizer.lr (found 1000000.0)" in capsys.readouterr().err
    assert not nodes.teacher("tiny").is_done()


def test_a_node_starts_although_somebody_looks_whether_it_runs(here: Path) -> None:
    """`moonshine status` takes each lock for a moment."""
    from filelock import FileLock, Timeout

    node = nodes.teacher("tiny")
    node.work.mkdir(parents=True)
    looked = FileLock(node.work / "lock", thread_local=False)
    looked.acquire()
    threading.Timer(0.02, looked.release).start()
    with stage.node_lock(node):
        assert not looked.is_locked
        with pytest.raises(Timeout):
            looked.acquire(timeout=0)


def test_a_node_is_trained_by_one_process_at_a_time(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from filelock import FileLock

    assert run("fetch") == 0
    node = nodes.teacher("tiny")
    node.work.mkdir(parents=True)
    with FileLock(node.work / "lock"):
        assert run("teacher") != 0
    assert "another process" in capsys.readouterr().err


def _replace(*keys: str, by: Any) -> Callable[[dict[str, Any]], object]:
    def edit(study: dict[str, Any]) -> None:
        here = study
        for key in keys[:-1]:
            here = here[key]
        here[keys[-1]] = by

    return edit


MISTAKES = {
    "unknown key": (_replace("training", "epoch", by=3), "training.epoch: unknown key"),
    "wrong type": (_replace("training", "epochs", by="3"), "training.epochs: found '3'"),
    "negative epochs": (_replace("training", "epochs", by=-1), "training.epochs: found -1"),
    "empty students": (_replace("students", by={}), "students: found {}"),
    "unknown block": (_replace("students", "G4", by={"block": "Q(4)"}), "students.G4:"),
    "block that does not divide": (_replace("students", "G4", by={"block": "G(5)"}), "students.G4:"),
    "the teacher itself": (_replace("students", "G4", by={"block": "S"}), "is the teacher itself"),
    "unknown network": (_replace("teacher", "network", by="wrn-11-1"), "teacher.network:"),
    "two nodes of one name": (
        lambda study: study.update(
            students={"a-b": {"block": "G(4)"}, "a": {"block": "G(4)"}, "G4": {"block": "G(4)"}},
            methods={"at": study["methods"]["at"], "b-at": study["methods"]["at"]},
        ),
        "a-b with at and a with b-at are both called distil@tiny-a-b-at-0",
    ),
    "a key DVC cannot hold": (_replace("students", "G.4", by={"block": "G(4)"}), "DVC splits on dots"),
    "no such file": (None, "no such file"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_study_is_one_message_and_leaves_finished_results_alone(
    name: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit, said = MISTAKES[name]
    before = contents(finished)
    if edit is None:
        Path("params.yaml").unlink()
    else:
        change(edit)
    capsys.readouterr()
    assert run("distil", "G4", "at", "0") == USAGE_ERROR
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("scratch", "B7", "0"), ["student", "B7", "params.yaml", "G4", "BG2-M"]),
        (("distil", "G4", "rkd", "0"), ["method", "rkd", "params.yaml", "kd", "at"]),
        (("scratch", "G4", "9"), ["seed", "9", "params.yaml", "0"]),
    ],
)
def test_a_node_that_the_study_does_not_have_is_refused(
    command: tuple[str, ...], said: list[object], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*command) == USAGE_ERROR
    assert names(capsys.readouterr().err, *said)


def test_another_study_than_the_one_in_params_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage.main(fetch.run, nodes.fetch, ["--study", "digits"]) == USAGE_ERROR
    assert names(capsys.readouterr().err, "study", "digits", "params.yaml", "tiny")


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda path: path.unlink(), ["stripes.npz"]),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), ["stripes.npz"]),
        (lambda path: tiny.write_arrays(path, test_labels=[1] * 20), ["sha256"]),
    ],
    ids=["missing", "truncated", "wrong checksum"],
)
def test_data_that_is_not_what_the_study_says_is_refused(
    prepare: Callable[[Path], object], said: list[object], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(here / "stripes.npz")
    assert run("fetch") == USAGE_ERROR
    assert names(capsys.readouterr().err, *said)
    assert not nodes.fetch("tiny").is_done()


def test_labels_out_of_range_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = tiny.write_arrays(here / "stripes.npz", test_labels=[0, 7] * 10)
    change(_replace("data", "sha256", by=digest))
    assert run("fetch") == USAGE_ERROR
    assert "7" in capsys.readouterr().err


def test_a_teacher_with_weights_of_another_architecture_is_refused(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = finished / "students" / "G4" / "at" / "seed0" / "weights.safetensors"
    (finished / "teacher" / "weights.safetensors").write_bytes(student.read_bytes())
    assert run("distil", "G4", "kd", "0") == USAGE_ERROR
    assert names(capsys.readouterr().err, "another architecture")


def test_a_results_folder_that_cannot_be_written_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "results").write_text("a file where the folder should be")
    assert run("fetch") == USAGE_ERROR
    assert "cannot be written" in capsys.readouterr().err
