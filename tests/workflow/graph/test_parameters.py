"""A study survives the form in which the engines compare it and their commands read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from moonshine.config import load_study
from moonshine_workflow.graph import nodes, resolve
from moonshine_workflow.graph.parameters import study_of_job
from tests.workflow.clones import PROJECT

STUDIES = sorted((PROJECT / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_read_as_it_was_written(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(path)
    monkeypatch.chdir(tmp_path)
    resolve.refresh(study)
    monkeypatch.setenv(nodes.PARAMS_VARIABLE, str(nodes.resolved_file(study.study)))
    found = study_of_job()
    assert found == study
    assert [*found.students, *found.methods] == [*study.students, *study.methods]  # the order of the tables
