"""``moonshine report --partial``: a page of what there is."""

import shutil
from pathlib import Path

import yaml

from moonshine_workflow import cli
from moonshine_workflow.graph import nodes
from moonshine_workflow.report.notebooks import FOLDER
from tests.workflow.fake_results import make_study
from tests.workflow.report.rendering import prepare, run_cells


def test_a_partial_report_shows_what_there_is_and_leaves_the_tables_alone(tmp_path):
    study = make_study()
    absent = [node.name for node in nodes.trained(study) if node.student == "B2" or node.method == "kd"]
    prepare(tmp_path, study, absent=absent)
    page = run_cells(FOLDER / "report.ipynb", study="digits", root=tmp_path, partial=True)
    assert "Partial report:</b> 19 of 37 trained networks are finished" in page
    assert f"<li>{absent[0]}</li>" in page
    assert "no pair of completed runs yet to compare knowledge distillation" in page
    assert "3 of 4 students, 3 seeds" in page
    assert not (tmp_path / "results" / "digits" / "tables").exists()


def test_a_partial_report_of_nothing_is_a_page_all_the_same(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(make_study().model_dump()))
    page = run_cells(FOLDER / "report.ipynb", study="digits", root=tmp_path, partial=True)
    assert "0 of 37 trained networks" in page


def test_a_partial_report_that_cannot_be_written_says_where(tmp_path, monkeypatch, capsys):
    prepare(tmp_path, absent=["distil@digits-GN-at-1"])
    monkeypatch.chdir(tmp_path)
    shutil.rmtree("results/digits/logs", ignore_errors=True)
    Path("results/digits/logs").write_text("in the way, as a disk is that may only be read")
    assert cli.main(["report", "--partial"]) == 2
    assert "results/digits/logs: cannot be written (File exists)" in capsys.readouterr().err
