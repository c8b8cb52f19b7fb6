"""Committed notebooks, and what their execution leaves."""

import ast
import re
import sys

import nbformat
import pytest

from moonshine_workflow.report.notebooks import FOLDER, drop_volatile, execute, to_html, to_json
from tests.workflow.quick_python import quick_python
from tests.workflow.report.rendering import small_notebook

NOTEBOOKS = ("report.ipynb", "compare.ipynb")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_committed_clean(name):
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", cell.id) for cell in notebook.cells)  # chosen, not drawn
    assert [cell.id for cell in code if "parameters" in cell.metadata.get("tags", ())] == ["parameters"]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_only_call_functions(name):
    for cell in nbformat.read(FOLDER / name, as_version=4).cells:
        if cell.cell_type == "code":
            nodes_of_cell = [type(node) for node in ast.walk(ast.parse(cell.source))]
            assert not {ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.BinOp} & set(nodes_of_cell), cell.id


def test_two_runs_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", quick_python())
    sources = (
        "from moonshine_workflow.report.markup import Fragment\nvalue = 1",
        "Fragment('<p>words</p>')",
        "print(value)",
        "import json, ipykernel.connect as c",
        # another notebook may get the same TCP ports at the same time
        "json.loads(c.get_connection_info())['transport']",
    )
    source = small_notebook(tmp_path / "small.ipynb", *sources)
    once, twice = (
        drop_volatile(execute(source, {"value": 2}, tmp_path / "run.ipynb", tmp_path / "failed.ipynb"))
        for _ in range(2)
    )
    assert to_json(once) == to_json(twice)
    assert to_html(once, "small") == to_html(twice, "small")
    assert "<p>words</p>" in to_html(once, "small")
    assert once.cells[-1].outputs[0].data["text/plain"] == "'ipc'"
