"""Every estimate is made in an empty folder, and times no more than it must."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moonshine_workflow.commands.estimating.throughput.LEAST_SECONDS", 1e-9)
    monkeypatch.setattr("moonshine_workflow.commands.estimating.throughput._TIMED_STEPS", {"cpu": 1})
    monkeypatch.chdir(tmp_path)
