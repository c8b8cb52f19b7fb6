"""What the commands of Snakemake's jobs inherit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moonshine_workflow.engines.rules import prepare_environment


def test_commands_run_the_package_of_their_own_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATH", "MOONSHINE_ENGINE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("PYTHONPATH", "theirs")
    prepare_environment(str(tmp_path))
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(tmp_path / "workflow"), "theirs"]
