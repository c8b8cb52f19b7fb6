"""Handing a study from one engine to the other repeats no training, and is refused where it would be a lie."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moonshine.errors import MoonshineError
from moonshine_workflow.engines.handover import hand_over, main
from moonshine_workflow.engines.restamp import main as restamp_main
from moonshine_workflow.engines.restamp import restamp
from tests.messages import naming
from tests.workflow.clones import clone, due, edit_code, edit_study, inside, outputs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")

WEIGHTS = "results/tiny/students/G4/at/seed0/weights.safetensors"
TABLES = {"collect@tiny", "examples@tiny", "export@tiny", "report@tiny"}
TRAINED = {
    "teacher@tiny",
    "scratch@tiny-G4-0",
    "scratch@tiny-B2-0",
    "distil@tiny-G4-at-0",
    "distil@tiny-B2-at-0",
}


def timings(folder: Path) -> dict[str, bytes]:
    """When each node ran."""
    return {path.stem: path.read_bytes() for path in (folder / "results/tiny/timings").iterdir()}


def test_dvc_goes_on_where_snakemake_stopped(run_by_snakemake: Path, run_by_dvc: Path) -> None:
    assert due(run_by_dvc, "dvc") == set()
    before, after = timings(run_by_snakemake), timings(run_by_dvc)
    ran = {name for name, timing in after.items() if before.get(name) != timing}
    assert ran == {f"{name}@tiny-B2" for name in ("structure", "measure")} | TABLES | {
        "scratch@tiny-B2-0",
        "distil@tiny-B2-at-0",
    }


def test_a_fresh_clone_pulls_and_trains_nothing(shared: Path, run_by_dvc: Path) -> None:
    assert due(shared, "snakemake") == due(shared, "dvc") == set()
    assert outputs(shared) == outputs(run_by_dvc)
    with inside(shared):
        assert hand_over("snakemake") == "DVC already knows all of it"
        assert hand_over("dvc") == "Snakemake already knows all of it"


def lose_a_file(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def edit_a_parameter(folder: Path) -> None:
    def change(study: dict[str, Any]) -> None:
        study["methods"]["at"]["at"]["beta"] = 10.0

    edit_study(folder, change)


def edit_a_module(folder: Path) -> None:
    edit_code(folder, "workflow/moonshine_workflow/training/node.py")


def edit_the_users_code(folder: Path) -> None:
    edit_code(folder, "tiny_blocks.py")


def forget(folder: Path) -> None:
    shutil.rmtree(folder / ".snakemake" / "metadata")
    (folder / "dvc.lock").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lose_a_file, ["1 files", "missing", WEIGHTS]),
        (edit_a_parameter, ["nodes left", "distil@tiny-B2-at-0"]),
        (edit_a_module, ["nodes left", "teacher@tiny"]),
        (edit_the_users_code, ["nodes left", "structure@tiny-B2"]),
        (forget, ["16 nodes"]),
    ],
)
@pytest.mark.parametrize("giver", ["snakemake", "dvc"])
def test_refuses_what_is_not_finished(
    giver: str, spoil: Callable[[Path], None], message: list[object], by_both: Path
) -> None:
    spoil(by_both)
    with inside(by_both), pytest.raises(MoonshineError, match=naming(*message)):
        hand_over(giver)


def test_the_command_says_what_is_wrong_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with inside(clone(tmp_path)):
        assert main(["--from", "snakemake"]) == 2
    error = capsys.readouterr().err
    assert "files are missing" in error
    assert error.count("\n") == 1


def test_restamp_moves_both_records_and_the_report_says_so(
    by_both: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = (by_both / WEIGHTS).read_bytes()
    edit_a_module(by_both)
    with inside(by_both):
        assert restamp_main(["--reason", "a comment at the end"]) == 0
    assert "restamped 5 nodes" in capsys.readouterr().out
    assert due(by_both, "snakemake") == due(by_both, "dvc") == set()
    (use,) = json.loads((by_both / "results/tiny/restamps.json").read_text())
    assert set(use["nodes"]) == TRAINED
    assert use["reason"] == "a comment at the end"
    assert "a comment at the end" in (by_both / "results/tiny/report.html").read_text()
    assert (by_both / WEIGHTS).read_bytes() == weights


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (None, ["nothing to restamp"]),
        (lose_a_file, ["missing", WEIGHTS]),
        (edit_a_parameter, ["methods.at"]),
        (edit_the_users_code, ["structure@tiny-B2"]),
        (forget, ["more than code"]),
    ],
)
def test_restamp_refuses_more_than_code(
    spoil: Callable[[Path], None] | None, message: list[object], by_both: Path
) -> None:
    if spoil:
        edit_a_module(by_both)
        spoil(by_both)
    with inside(by_both), pytest.raises(MoonshineError, match=naming(*message)):
        restamp("harmless")
    assert not (by_both / "results/tiny/restamps.json").exists()


def test_restamp_wants_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert restamp_main(["--reason", " "]) == 2
    assert "--reason: found nothing" in capsys.readouterr().err
