"""Copies of the project in which an engine may run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from moonshine.config import load_study
from moonshine_workflow.engines import dvc_state, parallel, snakemake_state
from moonshine_workflow.engines.rules import path_with_this_python
from moonshine_workflow.graph import nodes
from tests.workflow import tiny
from tests.workflow.quick_python import quick_python

PROJECT = Path(__file__).parents[2]
CODE = os.pathsep.join(map(str, (PROJECT, PROJECT / "workflow")))
"""Where a process finds the project's packages."""
PARTS = ("Snakefile", "dvc.yaml", ".dvc/config", ".dvcignore", ".gitignore")
FOLDERS = (".dvc/plots", "moonshine", "notebooks", "profiles", "studies", "workflow")
# One student and one method: nine nodes.
STUDY = tiny.study(
    students={"G4": {"block": "G(4)"}},
    methods={"at": {"at": {"form": "resolution-free", "beta": 1000.0}}},
)
STUDY["training"]["epochs"] = 1


def clone(folder: Path, content: dict[str, Any] = STUDY, *, tracked: bool = False) -> Path:
    """Fill an empty folder with the project's files and a study, as a git repository.

    Unless ``tracked``, its reports log nothing to MLflow, which takes seconds to import and to make a database.
    """
    for part in PARTS:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / part, folder / part)
    for name in FOLDERS:
        shutil.copytree(PROJECT / name, folder / name)
    if not tracked:
        track = folder / "workflow" / "moonshine_workflow" / "tracking" / "back_fill.py"
        track.write_text(track.read_text().replace("sys.exit(main())", "sys.exit()"))
    tiny.write_study(folder, content)
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return folder


def fork(folder: Path, target: Path) -> Path:
    """A copy of a folder with all dates, which both engines look at."""
    return Path(shutil.copytree(folder, target, symlinks=True, dirs_exist_ok=True))


def call(folder: Path, *command: str, quick: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command of an engine, ``snakemake ...`` or ``dvc ...``, or ``python -m ...`` in a folder.

    ``quick``: in forks of a process that has imported what most commands need, see `quick_python`.
    """
    python = quick_python() if quick else sys.executable
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(python).parent), path_with_this_python()]),
        "PYTHONPATH": str(folder / "workflow"),
        "DVC_SITE_CACHE_DIR": str(folder / ".dvc" / "site"),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [python, "-m", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def succeed(folder: Path, *command: str) -> str:
    """What a command printed; it must succeed."""
    done = call(folder, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder; what reading its Snakefile does to this process is undone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "executable", quick_python())
        for name in ("PATH", "MOONSHINE_ENGINE"):
            patch.setenv(name, os.environ.get(name, ""))
        patch.setenv("PYTHONPATH", str(folder / "workflow"))
        patch.setenv("DVC_SITE_CACHE_DIR", str(folder / ".dvc" / "site"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(dvc_state, "dvc", _dvc)
        yield


def due(folder: Path, engine: str) -> set[str]:
    """The nodes that an engine would run, asked in this process."""
    with inside(folder):
        if engine == "snakemake":
            return {job.name for job in snakemake_state.jobs() if job.due}
        return set(parallel.due())


def _dvc(*arguments: str, otherwise: Callable[..., str] = dvc_state.dvc) -> str:
    """DVC's state, asked in this process: another one takes longer to start than to answer."""
    if arguments != ("status", "--json"):
        return otherwise(*arguments)
    from dvc.repo import Repo

    with Repo() as repo:
        return json.dumps(repo.status())


def edit_study(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "params.yaml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def edit_code(folder: Path, path: str) -> None:
    """A change that changes nothing."""
    with (folder / path).open("a") as file:
        file.write("\n# the same code in other bytes\n")


def outputs(folder: Path) -> dict[str, bytes]:
    """Every output of the study, the report apart: it shows timings."""
    made = nodes.all_nodes(load_study(folder / "params.yaml"))
    paths = [path for node in made if node.stage != "report" for path in node.outputs]
    files = [found for path in paths for found in ([folder / path, *(folder / path).glob("[!.]*")])]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if not path.is_dir()}
