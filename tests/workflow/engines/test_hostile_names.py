"""Names in params.yaml that are paths or commands: DVC reads them before any check, yet removes and runs nothing."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.cli import main as dvc
from dvc.repo import Repo

from moonshine_workflow.engines.rules import path_with_this_python
from moonshine_workflow.graph.check import CHECKED
from tests.workflow import tiny
from tests.workflow.clones import PROJECT, edit_study, fork, inside

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")

COMMAND = "touch ran"
NAMES: list[dict[str, Any]] = [
    {"study": ".."},
    {"study": "../../x"},
    {"study": f"tiny;{COMMAND};"},
    {"students": {f"`{COMMAND}`": {"block": "G(4)"}, "../../../data/G4": {"block": "G(4)"}}},
]
# What `dvc repro` would remove first, relative to the project: outputs of fetch, of structure and of training.
OTHERS = ("data/data.safetensors", "../x/data/dataset.json", "data/G4/structure.json")


def test_dvc_repro_removes_and_runs_nothing_for_hostile_names(run_by_dvc: Path, tmp_path: Path) -> None:
    project = fork(run_by_dvc, tmp_path / "deep" / "inside" / "project")
    for path in OTHERS:
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).touch()
    finished = (project / "params.yaml").read_bytes()
    before = _files(tmp_path) - {project / CHECKED}
    with inside(project), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path_with_this_python())
        for names in NAMES:
            (project / "params.yaml").write_bytes(finished)
            edit_study(project, lambda study, names=names: study.update(names))  # type: ignore[misc]
            dvc(["checkout", "--force"])  # `dvc exp run` does both
            assert dvc(["repro"]) != 0, names
            assert before <= _files(tmp_path), names
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize("name", [f"tiny;{COMMAND};", f"`{COMMAND}`", f"$({COMMAND})", "it's", "a b"])
def test_dvc_quotes_names_in_commands(name: str, tmp_path: Path) -> None:
    """Also where a stage is run without those before it, as ``dvc repro --single-item`` does."""
    tiny.write_study(tmp_path, tiny.study(study=name, students={name: {}}, methods={name: {}}))
    shutil.copy(PROJECT / "dvc.yaml", tmp_path)
    with inside(tmp_path), Repo.init(no_scm=True) as repo:
        words = {stage.name.split("@")[0]: shlex.split(stage.cmd) for stage in repo.index.stages}
    given = ["--study", name, "--student", name, "--method", name, "--seed", "0"]
    assert words["distil"] == ["python", "-m", "moonshine_workflow.stages.distil", *given]
    assert words["measure"] == [
        "python",
        "-m",
        "moonshine_workflow.stages.measure",
        "--study",
        name,
        "--student",
        name,
    ]


def _files(folder: Path) -> set[Path]:
    """Every file that is no engine's own, nor a log or a bytecode file."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path for path in found if not {".dvc", "__pycache__"} & set(path.parts)}
