"""The report's first words: what to ship, or why nothing is, and what comes nearest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moonshine_workflow.report.comparison import overview
from moonshine_workflow.report.markup import columns
from moonshine_workflow.report.results import Results, load_results
from moonshine_workflow.report.sections import answer
from moonshine_workflow.report.what_to_ship import what_to_ship
from moonshine_workflow.tables.collect import collect, write_tables
from moonshine_workflow.tables.shipped import FileVerdict, Judged, Shipped
from tests.workflow.fake_results import make_study, table_rows, write_results

RECEIPT: dict[str, Any] = {"format": "onnx", "file": "network.onnx", "bytes": 400_000, "sha256": "c" * 64}


def results(root: Path, budget: str | None, *, validation: float = 0.2, **settings: Any) -> Results:
    """The collected results of invented runs under a budget; more ``settings`` are those of ``ship``."""
    ship = {"budget": budget, "allowed_error_pct": None, "calibration_images": 8, "logit_tolerance": 0.001}
    data = {"name": "digits", "size": 16, "validation": validation, "test": 0.25, "split_seed": 0}
    study = make_study(ship={**ship, **settings} if budget else None, data=data)
    write_results(root, study)
    write_tables(collect(study, root), root / "results" / "digits")
    return load_results("digits", root)


def export(
    root: Path,
    found: Results,
    *,
    network: float = 0.9,
    file: float = 0.9,
    allowed: float | None = None,
    name: str = RECEIPT["file"],
) -> None:
    """What `export` leaves of the first candidate, judged in validation as ``network`` and, as a file, ``file``."""
    folder = root / "results" / "digits" / "export"
    folder.mkdir()
    receipt = {**RECEIPT, "file": name, "max_logit_difference": 1e-6, "error_pct": 4.7, "examples": 10_000}
    content = {"error_pct": 4.5, "examples": 10_000, "receipts": [receipt]}
    (folder / "receipts.json").write_text(json.dumps(content))
    first = found.choice.ranked[0]
    verdict: FileVerdict = (
        "not accurate enough" if allowed and file > allowed else "falls" if file - network > 1 else "good"
    )
    judged = Judged(first.student, first.method, first.best_seed, network, {name: file}, verdict)
    chosen = None if verdict == "not accurate enough" else judged
    Shipped(
        status="shipped" if chosen else verdict,
        budgets=found.choice.budgets,
        allowed_error_pct=allowed,
        counted=(name,),
        chosen=chosen,
        judged=(judged,),
    ).write(folder / "shipped.json")


def test_a_study_that_ships_nothing_has_no_such_section(tmp_path: Path) -> None:
    assert str(what_to_ship(results(tmp_path, None)).html) == ""


def test_columns_leave_out_what_shows_nothing(tmp_path: Path) -> None:
    found = results(tmp_path, None)
    shown = columns(what_to_ship(found), None, answer(found)).html
    assert shown == f'<div class="columns"><div>{answer(found).html}</div></div>'
    assert "<h2>" not in shown


def test_a_study_that_ships_says_so_beside_what_distillation_does(tmp_path: Path) -> None:
    found = results(tmp_path, "500kB")
    shown = columns(what_to_ship(found), answer(found)).html
    assert shown.count("<div>") == 2
    assert shown.index("What to ship") < shown.index("<h2>Does distillation help?</h2>")


def test_the_shipped_student_comes_with_its_cost_and_its_files(tmp_path: Path) -> None:
    found = results(tmp_path, "500kB")
    export(tmp_path, found)
    said = what_to_ship(found).html
    chosen = found.choice.ranked[0]
    assert (chosen.student, chosen.method) == ("GN", "at")
    assert f"Under 500kB ship G(N) trained with at, seed {chosen.seed}." in said
    (row,) = [row for row in found.rows if row.model.student == "GN"]
    error, teacher = row.errors["at"], found.rows[0].errors["scratch"]
    assert error.mean is not None
    assert teacher.mean is not None
    headline = said.partition("</b>")[0]
    assert "The test error of its file <code>network.onnx</code> is 4.70 %" in headline
    assert f"+{4.7 - teacher.mean:.2f} points against the teacher" in headline
    assert f"over 3 seeds such networks have {error.mean:.2f} ± {error.half_width:.2f} %" in said
    assert "notice" not in said
    assert "0.396 MB of 500kB" in said
    assert "href=" not in said
    assert "does not hold the files" in said
    for receipt in found.receipts["receipts"]:
        (found.folder / "export" / receipt["file"]).touch()
    assert 'href="export/network.onnx"' in what_to_ship(found).html
    assert "all 10,000 test images" in said


def test_every_candidate_is_listed_with_what_it_takes(tmp_path: Path) -> None:
    found = results(tmp_path, "500kB")
    said = what_to_ship(found).html
    assert said.count("<tr>") - 1 == len(found.choice.candidates) == 12
    assert "Nothing is exported yet" in said
    assert "is G(N) trained with at; whether it ships is decided by its files" in said


def test_a_comparison_names_what_ships_with_the_error_of_its_file(tmp_path: Path) -> None:
    found = results(tmp_path, "500kB")
    assert table_rows(overview([found]).html)[0][-1] == "–"
    export(tmp_path, found)
    again = load_results("digits", tmp_path)
    assert table_rows(overview([again]).html)[0][-1] == "G(N) at<br><small>network.onnx 4.70 %</small>"


def test_a_fall_is_told_in_the_answer(tmp_path: Path) -> None:
    found = results(tmp_path, "500kB")
    export(tmp_path, found, file=2.5)
    said = what_to_ship(found).html
    assert "network.onnx is 1.60 points worse in validation than the network it was made from" in said
    assert "passed over" not in said


def test_files_that_break_the_promise_are_the_answer(tmp_path: Path) -> None:
    found = results(tmp_path, "500kB", allowed_error_pct=10.0)
    export(tmp_path, found, file=67.0, allowed=10.0)
    said = what_to_ship(found).html
    assert "No student that fits 500kB is within the 10 % error" in said
    assert "<code>network.onnx</code> has a validation error of 67.00 %, its network 0.90 %" in said
    assert "is not accurate enough" in said


@pytest.mark.parametrize(
    ("budget", "settings", "words"),
    [
        ("10kB", {}, ("No student fits 10kB.", "The nearest is BG(2,M) trained with at", "0.204 MB of 10kB")),
        (
            "500kB",
            {"allowed_error_pct": 0.5},
            ("No student that fits 500kB is within the 0.5 % error", "The nearest is G(N) trained with at"),
        ),
        ("500kB", {"validation": 0.0}, ("Nothing is chosen:", "no validation split")),
        (
            "1GB",
            {},
            ("The teacher itself fits this budget.", "First by the validation error of its network is G(4)"),
        ),
    ],
)
def test_why_nothing_is_shipped_and_what_comes_nearest(
    budget: str, settings: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    said = what_to_ship(results(tmp_path, budget, **settings)).html
    for word in words:
        assert word in said
