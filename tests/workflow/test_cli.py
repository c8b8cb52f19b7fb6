"""The command line reaches every program, and answers a mistake with its message alone."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from moonshine_workflow import cli


def test_help_lists_the_librarys_commands_and_the_pipelines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for name in ("cost", "status", *cli.PROGRAMS):
        assert f"    {name} " in shown


def test_python_m_moonshine_offers_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    starts: list[Callable[[], object]] = [
        cli.main,
        lambda: runpy.run_module("moonshine", run_name="__main__"),
    ]
    for start in starts:
        monkeypatch.setattr("sys.argv", ["moonshine", "--help"])
        with pytest.raises(SystemExit):
            start()
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]


@pytest.mark.parametrize("name", cli.PROGRAMS)
def test_each_program_has_its_own_help_in_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_what_asks_the_engines_needs_no_torch() -> None:
    """Its import takes longer than all of them."""
    code = "import sys, moonshine_workflow.cli; from moonshine_workflow.engines import parallel, restamp; "
    code += "print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_a_report_needs_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for options in ([], ["--partial"]):
        assert cli.main(["report", *options]) == 2
        assert "params.yaml: no such file" in capsys.readouterr().err
