"""``moonshine compare``: several studies side by side."""

import re
from pathlib import Path

import pytest

from moonshine.errors import MoonshineError
from moonshine_workflow.commands.compare import compare
from moonshine_workflow.commands.compare import main as compare_main
from moonshine_workflow.graph.mistakes import USAGE_ERROR
from moonshine_workflow.report.notebooks import FOLDER
from tests.messages import naming
from tests.workflow.fake_results import make_study
from tests.workflow.report.rendering import prepare, run_cells


def test_two_studies_are_compared_side_by_side(tmp_path):
    prepare(tmp_path, gains={"at": 0.8, "kd": 0.1})
    prepare(tmp_path, make_study(study="other", seeds=[0, 1]), gains={"at": -0.8, "kd": 0.1})
    page = run_cells(FOLDER / "compare.ipynb", studies=["digits", "other"], root=tmp_path)
    assert "moonshine: digits and other" in page
    assert "digits<br>at (%)" in page
    assert "other<br>at (%)" in page
    assert "BG(2,M)</td>" in page
    assert re.search(r"at: digits \(4\) −0\.\d\d ± .*at: other \(4\) \+0\.\d\d ± ", page)


@pytest.mark.parametrize(
    ("studies", "message"),
    [
        (["digits", "digits"], ["digits", "two"]),
        (["digits", "gone"], ["results/gone/tables/tables.json", "missing", "gone"]),
    ],
)
def test_a_comparison_needs_two_collected_studies(tmp_path, monkeypatch, studies, message, capsys):
    prepare(tmp_path)
    with pytest.raises(MoonshineError, match=naming(*message)):
        compare(studies, tmp_path / "out.html", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert compare_main(studies) == USAGE_ERROR
    assert re.search(naming(*message), capsys.readouterr().err)
    assert not Path("results/compare.html").exists()
