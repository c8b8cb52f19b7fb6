"""The tiny study, begun by Snakemake and continued by DVC; tests look at the two folders, or work on forks of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflow.clones import clone, edit_study, fork, inside, succeed
from workflow.handover import hand_over


@pytest.fixture(scope="session")
def run_by_snakemake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Snakemake has finished the study, with one student; DVC knows nothing."""
    folder = clone(tmp_path_factory.mktemp("snakemake"))
    succeed(folder, "snakemake", "--cores", "2")
    return folder


@pytest.fixture(scope="session")
def run_by_dvc(run_by_snakemake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DVC has taken that over, and has added a second student; Snakemake knows nothing of it."""
    folder = fork(run_by_snakemake, tmp_path_factory.mktemp("dvc"))
    with inside(folder):
        hand_over("snakemake")
    edit_study(folder, lambda study: study["students"].update(B2={"block": "B(2)"}))
    succeed(folder, "workflow.parallel", "--jobs", "2")
    return folder


@pytest.fixture(scope="session")
def shared(run_by_dvc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone that has pulled DVC's results and handed them to Snakemake: both engines know everything."""
    store = tmp_path_factory.mktemp("store")
    source = fork(run_by_dvc, tmp_path_factory.mktemp("source"))
    succeed(source, "dvc", "remote", "add", "--default", "store", str(store))
    succeed(source, "dvc", "push", "--quiet")
    folder = clone(tmp_path_factory.mktemp("shared"))
    # MLflow takes seconds to make a database
    for name in ("params.yaml", "dvc.lock", ".dvc/config", "mlflow.db"):
        (folder / name).write_bytes((source / name).read_bytes())
    succeed(folder, "dvc", "pull", "--quiet")
    with inside(folder):
        hand_over("dvc")
    return folder


@pytest.fixture
def by_snakemake(run_by_snakemake: Path, tmp_path: Path) -> Path:
    return fork(run_by_snakemake, tmp_path / "study")


@pytest.fixture
def by_dvc(run_by_dvc: Path, tmp_path: Path) -> Path:
    return fork(run_by_dvc, tmp_path / "study")


@pytest.fixture
def by_both(shared: Path, tmp_path: Path) -> Path:
    return fork(shared, tmp_path / "study")
