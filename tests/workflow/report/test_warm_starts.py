"""Warm starts in the report: epochs saved, by the errors of each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moonshine_workflow.graph import nodes
from moonshine_workflow.report.results import load_results
from moonshine_workflow.report.sections import main_table
from moonshine_workflow.report.warm_starts import warm_starts
from moonshine_workflow.tables.collect import collect, write_tables
from tests.workflow.fake_results import SIZES, make_study, table_rows, write_results

COLD = {"block": "G(4)"}
WARM = {"block": "G(4)", "warm_start": {"fit": "least-squares", "batches": 4}}
TWINS = {"G4": COLD, "G4-warm": WARM, "B2": {"block": "B(2)"}}
SLOW = (50, 40, 30, 20, 10, 8)


def section(
    root: Path, curves: Mapping[str, tuple[float, ...]], students=TWINS, seeds=(0, 1), diverged=()
) -> str:
    """The section for students whose validation errors per epoch are these, the same for every seed."""
    study = make_study(
        students=students,
        seeds=list(seeds),
        methods={"at": {"at": {"form": "paper", "beta": 1}}},
    )
    sizes = {**SIZES, "G4-warm": SIZES["G4"], "G4-steps": SIZES["G4"]}
    write_results(root, study, sizes=sizes, diverged=diverged)
    for student, errors in curves.items():
        for seed in seeds:
            node = nodes.distil(study.study, student, "at", seed)
            found = (90, 90) if node.name in diverged else errors
            rows = [f"{epoch},0.1,1,1,{error},{error},1" for epoch, error in enumerate(found)]
            header = "epoch,lr,loss,ce,train_error_pct,validation_error_pct,validation_loss"
            (root / node.folder / "history.csv").write_text("\n".join([header, *rows]) + "\n")
    write_tables(collect(study, root), root / "results" / study.study)
    return str(warm_starts(load_results(study.study, root)).html)


def test_saved_are_the_epochs_before_the_cold_students_last_error_is_reached(tmp_path: Path) -> None:
    # 8 is reached in epoch 2 instead of epoch 5, and the warm student ends 3 points lower
    said = section(tmp_path, {"G4": SLOW, "G4-warm": (20, 12, 8, 7, 6, 5)})
    assert [row[2:] for row in table_rows(said)] == [["at", "+3.00 ± 0.00", "−3.00 ± 0.00"]]


def test_a_warm_student_that_never_gets_there_saves_minus_one(tmp_path: Path) -> None:
    said = section(tmp_path, {"G4": SLOW, "G4-warm": (50, 40, 30, 20, 10, 9)}, seeds=(0,))
    assert [row[2:] for row in table_rows(said)] == [["at", "−1.00", "+1.00"]]  # one seed has no interval


def test_a_seed_that_diverged_is_left_out_and_counted(tmp_path: Path) -> None:
    curves = {"G4": SLOW, "G4-warm": (20, 12, 8, 7, 6, 5)}
    said = section(tmp_path, curves, seeds=(0, 1, 2), diverged=["distil@digits-G4-warm-at-1"])
    short = "<br><small>2 of 3 seeds</small>"
    assert [row[2:] for row in table_rows(said)] == [["at", f"+3.00 ± 0.00{short}", f"−3.00 ± 0.00{short}"]]


def test_a_warm_student_is_no_twin_of_another(tmp_path: Path) -> None:
    steps = {"block": "G(4)", "warm_start": {"fit": "steps", "batches": 4, "steps": 5}}
    said = section(tmp_path, {}, students={**TWINS, "G4-steps": steps})
    assert sorted(row[:2] for row in table_rows(said)) == [["G4-steps", "G4"], ["G4-warm", "G4"]]


def test_without_a_twin_there_is_no_section(tmp_path: Path) -> None:
    assert section(tmp_path, {}, students={"B2": {"block": "B(2)"}, "G4-warm": WARM}) == ""


def test_the_tables_tell_the_twins_apart(tmp_path: Path) -> None:
    section(tmp_path, {})
    results = load_results("digits", tmp_path)
    blocks = {row[1] for row in table_rows(str(main_table(results).html))[:4]}
    assert blocks == {"S", "B(2)", "G(4) <small>G4</small>", "G(4) <small>G4-warm</small>"}
    latex = (tmp_path / "results" / "digits" / "tables" / "table.tex").read_text()
    assert "& G(4) [G4-warm] &" in latex
    assert "& B(2) &" in latex
