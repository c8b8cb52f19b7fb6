"""A stage that trains one network in several processes, through torch's launcher."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from moonshine.config.study import parse_study
from moonshine.errors import MoonshineError
from moonshine_workflow.graph import nodes
from moonshine_workflow.training.launch import check_devices
from tests.messages import naming
from tests.workflow import tiny
from tests.workflow.clones import CODE
from tests.workflow.quick_python import quick_python
from tests.workflow.running import run


def study(**training: Any) -> dict[str, Any]:
    content = tiny.study(students={"G4": {"block": "G(4)"}})
    content["training"] |= {"devices": 2, **training}
    return content


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny.write_study(tmp_path, study())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", CODE)
    monkeypatch.setenv("PYTHON_EXEC", quick_python())  # for torch's launcher
    assert run("fetch") == run("structure-teacher") == 0
    return tmp_path


def teacher() -> tuple[subprocess.Popen[str], int]:
    """The teacher's node and its process id; the launcher below it is a process of Python's own."""
    _, module, *options = nodes.teacher("tiny").command
    code = f"import os, runpy, sys; sys.executable = {sys.executable!r}; print(os.getpid(), flush=True)\n"
    code += f"runpy.run_module({module!r}, run_name='__main__')"
    process = subprocess.Popen(
        [quick_python(), "-c", code, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def descendants(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def interrupt(work: Path, victim: Callable[[list[int]], int]) -> tuple[int, str]:
    """Start the teacher and kill one of its processes, two epochs on; its status and last words once all ended."""
    before = newest(work)
    process, node = teacher()
    try:
        while newest(work) < before + 2:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        below = descendants(node)
        os.kill(victim([node, *below]), signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        deadline = time.monotonic() + 60
        while any(psutil.pid_exists(pid) for pid in below):
            assert time.monotonic() < deadline, "processes go on without the one that started them"
            time.sleep(0.1)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


def newest(work: Path) -> int:
    return max((int(path.stem.partition("-")[2]) for path in work.glob("epoch-*.json")), default=-1)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_process_that_dies_ends_the_node_which_continues_when_it_runs_again(here: Path) -> None:
    tiny.write_study(here, study(epochs=40))
    work = here / "results/tiny/.work/teacher@tiny"
    status, said = interrupt(work, lambda pids: pids[-1])
    assert status == 2
    assert "one of 2 training processes failed" in said
    interrupt(work, lambda pids: pids[0])  # the node itself
    assert not (here / "results/tiny/teacher/metrics.json").exists()
    tiny.write_study(here, study(epochs=40, devices=1))
    assert run("teacher") == 0
    timings = json.loads((here / "results/tiny/timings/teacher@tiny.json").read_text())
    assert (timings["resumed"], timings["devices"]) == (2, 1)
    assert "not bit for bit" in (here / "results/tiny/logs/teacher@tiny.log").read_text()


def test_a_teacher_that_comes_with_its_weights_needs_no_company(here: Path) -> None:
    """Every process would evaluate it, and write the same files."""
    content = study()
    model = content["teacher"]
    tiny.write_study(here, study(devices=1, epochs=1))
    assert run("teacher") == 0
    weights = here / "given.safetensors"
    weights.write_bytes((here / "results/tiny/teacher/weights.safetensors").read_bytes())
    checksum = hashlib.sha256(weights.read_bytes()).hexdigest()
    content["teacher"] = {**model, "weights": str(weights), "weights_sha256": checksum}
    tiny.write_study(here, content)
    assert run("teacher") == 0
    timings = json.loads((here / "results/tiny/timings/teacher@tiny.json").read_text())
    assert "devices" not in timings


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_node_in_two_processes_leaves_what_one_leaves(here: Path) -> None:
    assert run("teacher") == 0
    folder = here / "results/tiny/teacher"
    assert json.loads((folder / "metrics.json").read_text())["status"] == "completed"
    timings = json.loads((here / "results/tiny/timings/teacher@tiny.json").read_text())
    assert timings["devices"] == 2
    log = (here / "results/tiny/logs/teacher@tiny.log").read_text()
    assert log.count("epoch 1/2:") == 1  # the first process alone writes
    assert run("measure") == 0


@pytest.mark.parametrize(
    ("training", "device", "said"),
    [
        (
            {"devices": 16},
            "cpu",
            ["training.devices", "16", "2 CPU cores", "1 to 2"],
        ),
        ({"sync_batch_norm": True}, "cpu", ["training.sync_batch_norm", "true", "CPU"]),
        ({"sync_batch_norm": True, "devices": 1}, "cpu", ["training.sync_batch_norm", "true", "CPU"]),
        ({}, "cuda:1", ["runtime.device", "cuda:1", "training.devices", "2"]),
    ],
)
def test_what_the_machine_does_not_have_is_said(
    training: dict[str, Any], device: str, said: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    content = study(**training)
    content["runtime"] = {**content["runtime"], "device": device}
    content["data"]["sha256"] = "0" * 64
    with pytest.raises(MoonshineError, match=naming(*said)):
        check_devices(parse_study(content))
