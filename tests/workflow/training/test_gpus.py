"""GPUs are shared out evenly among the nodes of a machine; here they are names, and nodes are contexts."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from moonshine_workflow.training.gpus import claimed, visible
from tests.workflow.clones import CODE
from tests.workflow.quick_python import quick_python

GPUS = ["0", "1", "2"]


def test_every_node_gets_the_gpu_that_fewest_others_use(tmp_path: Path) -> None:
    with ExitStack() as held:
        taken = [held.enter_context(claimed(GPUS, 1, folder=tmp_path))[0] for _ in range(6)]
    assert taken == [0, 1, 2, 0, 1, 2]


def test_a_node_that_has_ended_leaves_its_gpu_to_the_next(tmp_path: Path) -> None:
    with claimed(GPUS, 1, folder=tmp_path):
        with claimed(GPUS, 1, folder=tmp_path), claimed(GPUS, 1, folder=tmp_path):
            pass
        with claimed(GPUS, 1, folder=tmp_path) as found:
            assert found == [1]


def test_a_node_on_two_devices_gets_two_different_ones(tmp_path: Path) -> None:
    with claimed(GPUS, 1, folder=tmp_path), claimed(GPUS, 2, folder=tmp_path) as found:
        assert found == [1, 2]


def test_a_gpu_that_a_study_names_counts_as_used(tmp_path: Path) -> None:
    with claimed(GPUS, 1, [0], tmp_path) as named, claimed(GPUS, 1, folder=tmp_path) as found:
        assert (named, found) == ([0], [1])


def test_a_part_of_a_gpu_is_one(tmp_path: Path) -> None:
    with claimed(["MIG-GPU-8932f937/1/0"], 1, folder=tmp_path) as found:
        assert found == [0]


def test_a_killed_node_claims_nothing(tmp_path: Path) -> None:
    code = (
        "import os, time; from pathlib import Path; from moonshine_workflow.training.gpus import claimed\n"
        f"with claimed(['0', '1'], 1, folder=Path({str(tmp_path)!r})): print(os.getpid(), flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": CODE}
    with subprocess.Popen([quick_python(), "-c", code], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        with claimed(["0", "1"], 1, folder=tmp_path) as found:
            assert found == [1]
        os.kill(pid, signal.SIGKILL)
    with claimed(["0", "1"], 1, folder=tmp_path) as found:
        assert found == [0]


def test_gpus_are_called_what_cuda_calls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8932f937")
    assert visible() == ["5", "GPU-8932f937"]
