"""``moonshine check``: a line per part of the study, and no for each that would fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moonshine_workflow import cli
from tests.messages import names
from tests.workflow import tiny

SHIP = {"budget": "60k params", "allowed_error_pct": None, "calibration_images": 8, "logit_tolerance": 0.001}
MIXED = {"budget": "60k params", "batch_size": 8}


def check(folder: Path, **sections: Any) -> int:
    return cli.main(["check", str(tiny.write_study(folder, tiny.study(**sections)))])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_study_that_would_run_has_a_line_for_each_part_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = {"epochs": 1, "lr": 0.01}
    compress = {"sparsity": 0.5, "bits": 3, "prune": {"rounds": 2, **tuned}, "share": tuned}
    students = {
        "B2": {"block": "B(2)"},
        "dc": {"block": "B(2)", "compress": compress},
        "mix": {"mixed": MIXED},
        "wide": {"network": "wrn-10-2"},
    }
    assert check(here, students=students, ship=SHIP) == 0
    said = capsys.readouterr().out
    assert [line.partition(":")[0] for line in said.splitlines()] == [
        "tiny",
        *(f"ok  {part}" for part in ("data", "teacher", *students, "budget")),
        "it would run",
    ]
    assert "bytes of network.dc" in said
    fitting, _, beyond = said.splitlines()[-2].partition("beyond")
    assert names(fitting, "60k params", "B2", "mix")
    assert names(beyond, "wide")
    assert {path.name for path in here.iterdir()} == {"params.yaml", "stripes.npz"}


def test_every_part_that_would_fail_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    students = {"B2": {"block": "B(2)"}, "mix": {"mixed": {**MIXED, "budget": "1k params"}}}
    assert check(here, students=students, ship={**SHIP, "budget": "2k params"}) == 2
    said = capsys.readouterr().out
    assert names(said, "no  mix: students.mix", "1k params", "no  budget: ship.budget", "2k params", "B2")
    assert said.endswith("it would not run: mix, budget\n")


def test_data_that_cannot_be_read_are_said_and_nothing_else_is_tried(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny.write_study(here)
    (here / "stripes.npz").write_bytes(b"no zip")
    assert cli.main(["check", str(path)]) == 2
    said = capsys.readouterr().out
    assert names(said, "no  data", "stripes.npz", "checksum")
    assert "teacher" not in said
