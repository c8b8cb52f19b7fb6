"""What the commands of Snakemake's jobs inherit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moonshine.config.study import parse_study
from moonshine_workflow.engines.rules import prepare_environment, priority
from moonshine_workflow.graph.library import IN_CLONE
from tests.workflow import tiny


def test_commands_run_the_package_of_their_own_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATH", "MOONSHINE_ENGINE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("PYTHONPATH", "theirs")
    prepare_environment(str(tmp_path))
    assert os.environ["PYTHONPATH"] == "theirs"  # the installed one
    (tmp_path / IN_CLONE).mkdir(parents=True)
    prepare_environment(str(tmp_path))
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(tmp_path / "workflow"), "theirs"]


def test_seeds_come_one_after_the_other_in_the_order_of_the_study() -> None:
    data = {**tiny.STUDY["data"], "sha256": "0" * 64}
    study = parse_study(tiny.study(data=data, seeds=[3, 0, 7]))
    assert sorted(["0", "3", "7"], key=lambda seed: -priority(study, seed)) == ["3", "0", "7"]
