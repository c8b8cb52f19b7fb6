"""One engine at a time: the second one stops before it deletes anything."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moonshine.errors import MoonshineError
from moonshine.files import read_json, write_json
from moonshine_workflow.engines import dvc_state, locks
from moonshine_workflow.graph import nodes
from tests.messages import names, naming
from tests.workflow import tiny
from tests.workflow.clones import call, edit_study, inside, outputs

NO_PROCESS = 2**22 + 1  # above the largest process id


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """As while Snakemake runs in a folder."""
    with inside(folder):
        locks.lock_dvc_out(patience=0)
        try:
            yield
        finally:
            locks._held.pop().close()


def claim(folder: Path, process: int) -> None:
    """As while DVC's process runs a stage in a folder."""
    path = folder / locks.DVC_LOCKS
    path.parent.mkdir(parents=True, exist_ok=True)
    info = {"pid": process, "cmd": "dvc repro"}
    path.write_text(json.dumps({"write": {"results/tiny/teacher": info}, "read": {"params.yaml": [info]}}))


def change(folder: Path) -> None:
    edit_study(folder, lambda study: study["data"].update(split_seed=1))


def test_dvc_waits_while_snakemake_runs(by_dvc: Path) -> None:
    before = outputs(by_dvc)
    change(by_dvc)
    with locked(by_dvc):
        done = call(by_dvc, "dvc", "repro")
    assert done.returncode != 0
    assert "Unable to acquire lock" in done.stderr
    assert outputs(by_dvc) == before


def test_snakemake_waits_while_dvc_runs(by_snakemake: Path) -> None:
    before = outputs(by_snakemake)
    change(by_snakemake)
    claim(by_snakemake, os.getpid())
    done = call(by_snakemake, "snakemake", "--cores", "1")
    assert done.returncode != 0
    assert names(done.stderr, "DVC", "dvc repro")
    assert outputs(by_snakemake) == before


def test_parameters_that_a_running_stage_has_used_are_not_replaced(tmp_path: Path) -> None:
    """DVC reads them when the stage ends."""
    claim(tmp_path, os.getpid())
    tiny.write_study(tmp_path)
    with inside(tmp_path):
        path = nodes.resolved_file("tiny")
        write_json(path, {"seeds": "then"})
        with pytest.raises(MoonshineError, match=naming("DVC", "dvc repro")):
            dvc_state.changes()
        assert read_json(path) == {"seeds": "then"}


def test_a_second_snakemake_is_refused_and_a_later_one_is_not(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    with locked(tmp_path), pytest.raises(MoonshineError, match="another Snakemake"):
        locks.lock_dvc_out(patience=0)
    with locked(tmp_path):
        pass


def test_a_killed_dvc_stops_nobody(tmp_path: Path) -> None:
    claim(tmp_path, NO_PROCESS)
    for claims in ((tmp_path / locks.DVC_LOCKS).read_text(), "{"):
        (tmp_path / locks.DVC_LOCKS).write_text(claims)
        # the lock is really held, so a second Snakemake is refused
        with locked(tmp_path), pytest.raises(MoonshineError, match="another Snakemake"):
            locks.lock_dvc_out(patience=0)


def test_locks_of_a_killed_snakemake_are_removed_those_of_a_living_one_stay(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    lock = tmp_path / locks.SNAKEMAKE_LOCKS / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("results/tiny/report.html\n")
    with locked(tmp_path):
        # a lock belongs to the open file, so this is as from another process
        assert locks.remove_stale_locks() == []
    assert lock.exists()
    with inside(tmp_path):
        assert locks.remove_stale_locks() == [locks.SNAKEMAKE_LOCKS / "0.output.lock"]
        assert locks.remove_stale_locks() == []
    assert not lock.exists()


def test_without_dvc_there_is_nothing_to_lock(tmp_path: Path) -> None:
    with inside(tmp_path):
        locks.lock_dvc_out()
    assert list(tmp_path.iterdir()) == []
