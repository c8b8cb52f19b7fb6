"""Results as a notebook loads them."""

import pytest
import yaml

from moonshine.errors import MoonshineError
from moonshine_workflow.report.results import load_results, repository
from tests.messages import naming
from tests.workflow.fake_results import make_study


def test_a_partial_report_is_of_the_study_in_params(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(make_study().model_dump()))
    with pytest.raises(MoonshineError, match=naming("study", "digits", "other")):
        load_results("other", tmp_path, partial=True)


def test_a_report_without_tables_names_the_table(tmp_path):
    with pytest.raises(MoonshineError, match=naming("results/digits/tables/tables.json", "no such file")):
        load_results("digits", tmp_path)


def test_the_repository_is_found_from_the_notebooks_folder(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert repository() == tmp_path
