"""Progress of nodes that do not train: a bar on a terminal, lines elsewhere, and a file for the status."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.work_progress import reporting
from moonshine_workflow.training.progress_file import read_progress
from tests.workflow import tiny
from tests.workflow.running import run

NODE = nodes.fetch("tiny")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOONSHINE_ENGINE", raising=False)


def test_the_first_and_the_last_step_are_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "moonshine"), reporting(NODE) as progress:
        for done in range(1, 5):
            progress("images prepared", done, 4)
    said = [line.partition(",")[0] for line in caplog.messages]
    assert said == ["1 of 4 images prepared", "4 of 4 images prepared"]
    assert read_progress(NODE.work / "progress.json")["done"] == 4


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with reporting(NODE) as progress:
        progress("images prepared", 1, 4)
    assert "images prepared:   0%|" in capsys.readouterr().err


def test_what_an_earlier_run_left_is_not_shown() -> None:
    with reporting(NODE) as progress:
        progress("images prepared", 1, 4)
    with reporting(NODE):
        assert read_progress(NODE.work / "progress.json") == {}


def test_preparation_and_measurements_say_how_far_they_are(tmp_path: Path) -> None:
    tiny.write_study(tmp_path)
    for command in (("fetch",), ("structure", "G4"), ("measure", "G4")):
        assert run(*command) == 0
    assert "70 of 70 images prepared" in NODE.log.read_text()
    assert "2 of 2 measurements" in nodes.measure("tiny", "G4").log.read_text()
