"""A stage that trains one network in several processes, through torch's launcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from moonshine.config import parse_study
from moonshine.errors import MoonshineError
from tests.workflow import tiny
from tests.workflow.stages import run
from workflow.launch import check_devices


def study(**training: Any) -> dict[str, Any]:
    content = tiny.study(students={"G4": {"block": "G(4)"}})
    content["training"] |= {"devices": 2, **training}
    return content


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny.write_study(tmp_path, study())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    assert run("fetch") == 0
    return tmp_path


def teacher() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "workflow.teacher", "tiny"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def descendants(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_process_that_dies_ends_the_node_which_continues_when_it_runs_again(here: Path) -> None:
    tiny.write_study(here, study(epochs=400))
    process = teacher()
    work = here / "results/tiny/.work/teacher@tiny"
    try:
        while not list(work.glob("epoch-0000[2-9].json")):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
        os.kill(descendants(process.pid)[-1], signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 2
    assert "one of 2 training processes has ended with an error" in said
    assert not (here / "results/tiny/teacher/metrics.json").exists()
    done = len(list(work.glob("epoch-*.pt")))
    assert done > 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_node_in_two_processes_leaves_what_one_leaves(here: Path) -> None:
    _, said = (process := teacher()).communicate()
    assert process.returncode == 0, said
    folder = here / "results/tiny/teacher"
    assert json.loads((folder / "metrics.json").read_text())["status"] == "completed"
    timings = json.loads((here / "results/tiny/timings/teacher@tiny.json").read_text())
    assert timings["devices"] == 2
    log = (here / "results/tiny/logs/teacher@tiny.log").read_text()
    assert log.count("epoch 1/2:") == 1  # the first process alone writes
    assert run("measure", "teacher") == 0


@pytest.mark.parametrize(
    ("training", "device", "said"),
    [
        (
            {"devices": 16},
            "cpu",
            r"training\.devices: found 16; this machine has 2 CPU cores; allowed: 1 to 2",
        ),
        ({"sync_batch_norm": True}, "cpu", r"training\.sync_batch_norm: found true on a CPU"),
        ({}, "cuda:1", r"runtime\.device: found cuda:1, one device, for training\.devices: 2"),
    ],
)
def test_what_the_machine_does_not_have_is_said(
    training: dict[str, Any], device: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    content = study(**training)
    content["runtime"] = {**content["runtime"], "device": device}
    content["data"]["sha256"] = "0" * 64
    with pytest.raises(MoonshineError, match=said):
        check_devices(parse_study(content))
