"""The tiny study, begun by Snakemake and continued by DVC; tests look at the two folders, or work on forks of them.

The blocks of its first student are in a structure file; its second is built by code of the user's, in two files, and
has blocks by place.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from moonshine.structures.build import to_structure
from moonshine_workflow.engines.handover import hand_over
from tests.workflow.clones import STUDY, clone, edit_study, fork, inside, succeed

MIXTURE = "mixtures/G4.json"
GIVEN = {**STUDY, "students": {"G4": {"structure": MIXTURE}}}
"""The study with a student from a structure file."""
OWN = {
    "tiny_nets.py": "from tiny_blocks import network\n\n\ndef build():\n    return network()\n",
    "tiny_blocks.py": "import moonshine\n\n\ndef network():\n    return moonshine.build('wrn-10-1', 'S', 2, 1)\n",
}


def once(name: str, factory: pytest.TempPathFactory, make: Callable[[Path], None]) -> Path:
    """A fork of a folder that is made once in a run of the tests, by the first of their processes that needs it."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, made = root / name, root / f"{name}.made"
    with FileLock(root / f"{name}.lock"):
        if not made.exists():
            folder.mkdir()
            make(folder)
            made.touch()
    return fork(folder, factory.mktemp(name))


@pytest.fixture(scope="session")
def run_by_snakemake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Snakemake has finished the study, with one student; DVC knows nothing."""

    def make(folder: Path) -> None:
        clone(folder, GIVEN)
        to_structure("wrn-10-1", "G(4)", 2, 1).write(folder / MIXTURE)
        succeed(folder, "snakemake", "--cores", "2")

    return once("snakemake", tmp_path_factory, make)


@pytest.fixture(scope="session")
def run_by_dvc(run_by_snakemake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DVC has taken that over, and has added a second student; Snakemake knows nothing of it."""

    def make(folder: Path) -> None:
        fork(run_by_snakemake, folder)
        with inside(folder):
            hand_over("snakemake")
        for name, text in OWN.items():
            (folder / name).write_text(text)
        own = {"network": "tiny_nets:build", "blocks": {"stage1.*": "B(2)", "*": "B(2)"}}
        edit_study(folder, lambda study: study["students"].update(B2=own))
        succeed(folder, "moonshine_workflow.engines.parallel", "--jobs", "2")

    return once("dvc", tmp_path_factory, make)


@pytest.fixture(scope="session")
def shared(run_by_dvc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone that has pulled DVC's results and handed them to Snakemake: both engines know everything."""

    def make(folder: Path) -> None:
        store = folder.with_name("store")
        source = fork(run_by_dvc, folder.with_name("source"))
        succeed(source, "dvc", "remote", "add", "--default", "store", str(store))
        succeed(source, "dvc", "push", "--quiet")
        clone(folder)
        (folder / MIXTURE).parent.mkdir()
        for name in ("params.yaml", "dvc.lock", ".dvc/config", MIXTURE, *OWN):
            (folder / name).write_bytes((source / name).read_bytes())
        succeed(folder, "dvc", "pull", "--quiet")
        with inside(folder):
            hand_over("dvc")

    return once("shared", tmp_path_factory, make)


@pytest.fixture
def by_snakemake(run_by_snakemake: Path, tmp_path: Path) -> Path:
    return fork(run_by_snakemake, tmp_path / "study")


@pytest.fixture
def by_dvc(run_by_dvc: Path, tmp_path: Path) -> Path:
    return fork(run_by_dvc, tmp_path / "study")


@pytest.fixture
def by_both(shared: Path, tmp_path: Path) -> Path:
    return fork(shared, tmp_path / "study")
