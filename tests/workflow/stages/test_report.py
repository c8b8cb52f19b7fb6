"""The stage: one file that works offline, and what lies beside it."""

import json
import re
import sqlite3
import sys
from contextlib import nullcontext

import nbformat
import pytest

from moonshine_workflow.commands.report import main as report_main
from moonshine_workflow.graph.mistakes import USAGE_ERROR
from moonshine_workflow.report.notebooks import FOLDER
from tests.workflow.quick_python import quick_python
from tests.workflow.report.rendering import prepare, small_notebook

VEGA_LITE = '"$schema": "https://vega.github.io/schema/'


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A study with a diverged run and re-stamped results, and its report as the stage leaves it."""
    root = tmp_path_factory.mktemp("report")
    prepare(root, diverged=["distil@digits-GN-at-1"])
    stamp = {
        "when": "2026-11-20",
        "reason": "a docstring",
        "nodes": ["teacher@digits", "scratch@digits-G4-0"],
    }
    (root / "results" / "digits" / "restamps.json").write_text(json.dumps([stamp]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("PYTHONPATH", str(FOLDER.parent))
        patch.setattr(sys, "executable", quick_python())
        assert report_main([]) == 0
    return root / "results" / "digits"


def test_the_report_is_one_file_that_works_offline(rendered):
    page = (rendered / "report.html").read_text()
    assert "<title>moonshine: digits</title>" in page
    assert '<meta name="viewport" content="width=device-width' in page
    assert "content=\"default-src 'none'; img-src data:; " in page  # whatever the scripts try
    page, vega, own = re.split(r"<script>(?=.*?</script>)", page, flags=re.DOTALL)
    assert "window.vegaEmbed=" in vega
    assert "vegaEmbed(box" in own
    sources = re.findall(r'\b(?:src|href)\s*=\s*["\']?([^"\'\s>]+)', page)
    assert len(sources) == 5  # two fronts, two methods' effects, the curves
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"<link|@import|url\(|https?://", page.replace(VEGA_LITE, ""))


def test_the_report_shows_results_and_no_code(rendered):
    page = (rendered / "report.html").read_text()
    assert "load_results" not in page
    assert "Traceback" not in page
    for words in (
        "Attention transfer (AT) beats training from scratch here",
        "Diverged and excluded from every mean:</b> distil@digits-GN-at-1",
        "Results were re-stamped:</b> on 2026-11-20 2 nodes",
        "a docstring",
        "2 of 3 seeds",
        "691,674",
        "a" * 64,
        "torch 2.15.0",
        "beta 1000.0, form resolution-free",
        "slower than the teacher, by more than 10%, are G(N) (batch 1 and 64)",
    ):
        assert words in page
    assert page.index("beats training from scratch") < page.index("<table")  # the answer comes first


def test_the_report_leaves_the_executed_notebook_and_a_timing(rendered):
    text = (rendered / "report.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert "papermill" not in json.dumps([notebook.metadata, *(cell.metadata for cell in notebook.cells)])
    injected = next(cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", ()))
    assert 'root = "."' in injected.source  # and no path of this machine
    assert str(rendered) not in text
    assert (rendered / "timings" / "report@digits.json").is_file()
    assert not list((rendered / "logs").glob("*.ipynb"))


def test_the_report_leaves_the_runs_in_mlflow(rendered):
    """Of the teacher alone: the students of these results have no structure."""
    with sqlite3.connect(rendered.parents[1] / "mlflow.db") as store:
        found = store.execute("SELECT value FROM tags WHERE key = 'moonshine.node'").fetchall()
    assert found == [("teacher@digits",)]


def test_a_failing_notebook_fails_the_stage_and_leaves_its_copy(tmp_path, monkeypatch, capfd):
    prepare(tmp_path, timings=False)
    folder = tmp_path / "results" / "digits"
    (folder / "report.html").write_text("an earlier report")
    (folder / "report.ipynb").write_text("{}")
    source = small_notebook(tmp_path / "broken.ipynb", "before = 'seen'", "print(before)", "1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("moonshine_workflow.stages.report._NOTEBOOK", source)
    monkeypatch.setattr("moonshine_workflow.stages.report.tracked", nullcontext)
    assert report_main([]) == USAGE_ERROR
    message = capfd.readouterr().err
    assert "cell 4 raised ZeroDivisionError: division by zero" in message
    assert "results/digits/logs/report-failed.ipynb" in message
    assert "seen" in (folder / "logs" / "report-failed.ipynb").read_text()
    assert not (folder / "report.html").exists()
    assert not (folder / "report.ipynb").exists()
