"""Projects that are no clone: the copy of the library, and the two graphs of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from moonshine.errors import MoonshineError
from moonshine_workflow.commands.initialising.project_files import project_files, write_project
from moonshine_workflow.engines import restamp
from moonshine_workflow.graph.dvc_file import check_dvc_file, dvc_file
from moonshine_workflow.graph.library import (
    COPY,
    check_module_names,
    library_inputs,
    library_path,
    refresh_library,
)
from tests.messages import naming
from tests.workflow import tiny
from tests.workflow.clones import PROJECT
from tests.workflow.graph.test_graphs import AWKWARD, differences, read_dvc, read_snakemake, write_nets

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_copy_of_the_library_is_made_where_the_package_is_installed(project: Path) -> None:
    refresh_library()
    (store,) = library_inputs("moonshine/data/store.py", write=False)
    assert (project / store).read_bytes() == (PROJECT / "moonshine" / "data" / "store.py").read_bytes()
    for folder in ("moonshine/costs", "workflow/moonshine_workflow/report", "studies/published"):
        files = {path.relative_to(project / COPY) for path in (project / COPY / folder).rglob("*")}
        clones = (path.relative_to(PROJECT) for path in (PROJECT / folder).rglob("*"))
        assert files == {path for path in clones if "__pycache__" not in path.parts}


def test_a_manifest_changes_with_any_file_of_its_folder_and_with_nothing_else(project: Path) -> None:
    folder = project / "workflow" / "moonshine_workflow"
    for number, name in enumerate(("a.py", "inner/b.jinja", "inner/__pycache__/b.pyc")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1\n")
        os.utime(folder / name, (10 + number, 10 + number))
    (name,) = library_inputs("workflow/moonshine_workflow", write=True)
    assert library_path(name) == "workflow/moonshine_workflow"
    manifest = project / name
    assert manifest.stat().st_mtime == 11
    subprocess.run(["sha256sum", "--check", "--strict", name], check=True, capture_output=True)

    def changes(*, write: bool = True) -> bool:
        before = manifest.read_bytes()
        library_inputs("workflow/moonshine_workflow", write=write)
        return manifest.read_bytes() != before

    os.utime(folder / "a.py", (20, 20))
    (folder / "inner" / "__pycache__" / "c.pyc").touch()
    assert not changes()
    (folder / "inner" / "b.jinja").write_text("2\n")
    os.utime(folder / "inner" / "b.jinja", (30, 30))
    assert not changes(write=False)
    assert changes()
    assert manifest.stat().st_mtime == 30
    (folder / "inner" / "c.py").touch()
    assert changes()
    (folder / "a.py").unlink()
    assert changes()


def test_only_what_differs_is_copied_again(project: Path) -> None:
    refresh_library()
    same, other, gone = (COPY / "moonshine" / name for name in ("files.py", "errors.py", "gone.py"))
    for path in (same, other):
        os.utime(path, (1, 1))
    content = other.read_bytes()
    for path in (other, gone):
        path.write_text("an older version\n")
    refresh_library()
    assert (same.stat().st_mtime, other.read_bytes(), gone.exists()) == (1, content, False)


def test_a_clone_is_its_own_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    refresh_library()
    assert not COPY.exists()
    assert library_inputs("moonshine/files.py", write=True) == ["moonshine/files.py"]


@pytest.mark.parametrize("path", ["moonshine.py", "moonshine/__init__.py", "moonshine_workflow.py"])
def test_a_module_with_the_name_of_the_librarys_is_refused(project: Path, path: str) -> None:
    (project / "moonshine").mkdir()  # a folder alone hides nothing
    check_module_names()
    (project / path).touch()
    with pytest.raises(MoonshineError, match=naming(path, "hides", "any other name")):
        check_module_names()


def test_a_module_that_hides_the_library_from_a_command_of_an_engine_is_named(project: Path) -> None:
    (project / "moonshine.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "moonshine_workflow.graph.check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "moonshine hides the library" in done.stderr


def test_dvc_is_told_of_the_copy_and_of_nothing_else(project: Path) -> None:
    clones = yaml.safe_load((PROJECT / "dvc.yaml").read_text())
    found = yaml.safe_load(dvc_file())
    check = found["stages"].pop("check")
    assert check["outs"] == [
        {str(COPY): {"cache": False, "persist": True}},
        *clones["stages"].pop("check")["outs"],
    ]
    for stage in clones["stages"].values():
        stage["deps"] = [path if path.startswith("results/") else f"{COPY}/{path}" for path in stage["deps"]]
    assert found == clones


def test_a_dvc_file_of_another_version_is_refused(project: Path) -> None:
    (project / "dvc.yaml").write_text(dvc_file() + "\n# with a stage of mine\n")
    check_dvc_file()
    (project / "dvc.yaml").write_text(dvc_file().replace("      - results/${item.study}/choice.json\n", ""))
    with pytest.raises(MoonshineError, match=naming("dvc.yaml", "collect, export, report", "--graph")):
        check_dvc_file()


def test_the_copy_is_code_that_a_restamp_may_declare_harmless(project: Path) -> None:
    code, data = f"{COPY}/moonshine/training/train.py", "results/tiny/data/dataset.json"
    assert restamp._not_code([code, data]) == [data]


def test_both_engines_have_the_same_graph_in_a_project(project: Path) -> None:
    write_project(project, project_files(project))
    write_nets(project)
    tiny.write_study(project, AWKWARD)
    found = read_snakemake(project)
    assert differences(found, read_dvc(project)) == []
    inputs = {path for job in found.values() for path in job.inputs}
    assert {path.partition("/")[0] for path in inputs} == {"results", COPY.parts[0]}
