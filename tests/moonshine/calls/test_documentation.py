"""docs/library.md, run from top to bottom as a notebook in an empty folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from tests.messages import names
from tests.workflow.quick_python import quick_python

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "library.md"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The heading of each cell's section -> what the section's cells print."""
    headings: list[str] = []
    printed: dict[str, str] = {}
    notebook = nbformat.v4.new_notebook()
    for section in re.split(r"^## ", DOCUMENT.read_text(), flags=re.MULTILINE):
        for source in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
            headings.append(section.partition("\n")[0])
            notebook.cells.append(nbformat.v4.new_code_cell(source))
    folder = tmp_path_factory.mktemp("hers")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python", "language": "python"}
    nbformat.write(notebook, folder / "library.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", quick_python())
        notebook = papermill.execute_notebook(
            folder / "library.ipynb", folder / "run.ipynb", cwd=folder, progress_bar=False
        )
    for heading, cell in zip(headings, notebook.cells, strict=True):
        text = "".join(output.get("text", "") for output in cell.outputs)
        printed[heading] = printed.get(heading, "") + text
    return printed


def test_the_plan_says_what_fits(cells: dict[str, str]) -> None:
    assert names(
        cells["What fits"], "Sequential at 3x16x16", "120kB", "teacher", "mixed 1", "parameters", "False"
    )


def test_the_student_is_smaller(cells: dict[str, str]) -> None:
    assert int(cells["A student"]) < 79_000


def test_the_loop_of_her_own_lowers_the_loss(cells: dict[str, str]) -> None:
    first, last = re.findall(r"'at': ([0-9.]+)", cells["Your own loop"])
    assert float(last) < float(first)


def test_distil_returns_a_history(cells: dict[str, str]) -> None:
    assert "'train_error_pct'" in cells["Or no loop"]
    assert "nan" not in cells["Or no loop"]


def test_the_teacher_is_good_where_the_images_are_as_it_expects(cells: dict[str, str]) -> None:
    (right,) = re.findall(r"right on (\d+)%", cells["Are the images normalised?"])
    assert int(right) > 90


def test_every_file_has_a_receipt(cells: dict[str, str]) -> None:
    errors = dict(re.findall(r"(network\S*): [\d,]+ bytes, test error ([\d.]+) %", cells["Files"]))
    (own,) = re.findall(r"the network itself: ([\d.]+) %", cells["Files"])
    assert errors["network.onnx"] == errors["network.pt2"] == own
    assert "network-int8.onnx" in errors


def test_a_detector_is_planned(cells: dict[str, str]) -> None:
    assert names(cells["Detectors"], "teacher", "G(4)", "mixed 1", "True")
