"""A record's finished nodes count as finished for both engines, which go on with the rest."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moonshine.errors import MoonshineError
from moonshine_workflow.cli import main
from moonshine_workflow.engines import restore as engine
from moonshine_workflow.engines.restore import restore
from moonshine_workflow.records.record import Record, weights_file
from moonshine_workflow.records.save import save_record
from tests.messages import naming
from tests.workflow.clones import clone, due, edit_code, edit_study, inside
from tests.workflow.conftest import GIVEN, MIXTURE

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")

DISTILLED = Path("results/tiny/students/G4/at/seed0")
LEFT = {"distil@tiny-G4-at-0", "collect@tiny", "export@tiny", "examples@tiny", "report@tiny"}


@pytest.fixture(scope="module")
def recorded(run_by_snakemake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone without results, with the record of a study that lacks its last node."""
    made = tmp_path_factory.mktemp("made") / "study"
    shutil.copytree(run_by_snakemake, made)
    shutil.rmtree(made / DISTILLED)
    commit = commit_code(made)
    for path in (made / "results/tiny/timings").iterdir():
        path.write_text(json.dumps({**json.loads(path.read_text()), "commit": commit}))
    folder = clone(tmp_path_factory.mktemp("recorded"), GIVEN)
    (folder / MIXTURE).parent.mkdir(exist_ok=True)
    shutil.copy(made / MIXTURE, folder / MIXTURE)
    save_record("tiny", made, folder / "records")
    commit_code(folder)
    return folder


def commit_code(folder: Path) -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("add", "moonshine", "workflow")
    git("commit", "--quiet", "--message", "code")
    return git("rev-parse", "HEAD")


@pytest.fixture
def here(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "here", symlinks=True))


def results(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (folder / "results").rglob("*") if path.is_file()}


def test_both_engines_go_on_from_a_record(here: Path, run_by_snakemake: Path) -> None:
    with inside(here):
        said = restore("tiny")
    assert "restored 2 trained networks of tiny; 1 is left to train" in said
    assert "the code here is the same" in said
    assert due(here, "snakemake") == due(here, "dvc") == LEFT
    for path, content in results(here).items():
        name = path.relative_to(here)
        if "timings" not in name.parts and (run_by_snakemake / name).exists() and "logs" not in name.parts:
            assert (run_by_snakemake / name).read_bytes() == content, name
    (use,) = json.loads((here / "results/tiny/restamps.json").read_text())
    assert use["restored"]
    assert "teacher@tiny" in use["nodes"]


@pytest.fixture
def unstamped(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone in which no engine is asked anything."""
    monkeypatch.setattr(engine, "stamp_snakemake", lambda made: None)
    monkeypatch.setattr(engine, "stamp_dvc", lambda made: None)
    return here


def test_other_code_is_told(unstamped: Path) -> None:
    edit_code(unstamped, "moonshine/files.py")
    with inside(unstamped):
        assert "the code here differs" in restore("tiny")


def test_what_is_there_already_stays(unstamped: Path) -> None:
    timing = unstamped / "results/tiny/timings/teacher@tiny.json"
    timing.parent.mkdir(parents=True)
    timing.write_text("{}")
    with inside(unstamped):
        restore("tiny")
        restore("tiny")
    assert timing.read_text() == "{}"


def without_data(folder: Path) -> None:
    (folder / "stripes.npz").unlink()


def with_other_weights(folder: Path) -> None:
    path = folder / "results/tiny/teacher/weights.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"others")


def with_another_study(folder: Path) -> None:
    edit_study(folder, lambda study: study.update(study="small"))


def with_another_schedule(folder: Path) -> None:
    edit_study(folder, lambda study: study["training"].update(epochs=3))


def with_another_student(folder: Path) -> None:
    edit_study(folder, lambda study: study["students"]["G4"].update(block="G(2)"))


def with_damaged_weights(folder: Path) -> None:
    weights_file(folder / "records/tiny", "teacher@tiny").write_bytes(b"half")


def without_record(folder: Path) -> None:
    shutil.rmtree(folder / "records/tiny")


def while_snakemake_runs(folder: Path) -> None:
    (folder / ".snakemake/locks").mkdir(parents=True)
    (folder / ".snakemake/locks/0.input.lock").touch()
    shutil.rmtree(folder / ".dvc")  # so that the lock is not known to be stale


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_data, ["stripes.npz"]),
        (with_other_weights, ["results/tiny/teacher/weights.safetensors", "nothing was restored"]),
        (with_another_study, ["params.yaml", "study", "'small'", "'tiny'"]),
        (with_another_schedule, ["params.yaml", "training"]),
        (with_another_student, ["params.yaml", "students.G4"]),
        (with_damaged_weights, ["teacher@tiny.safetensors", "checksum"]),
        (without_record, ["records", "'tiny'", "none"]),
        (while_snakemake_runs, [".snakemake/locks/0.input.lock"]),
    ],
)
def test_refuses_and_writes_nothing(
    spoil: Callable[[Path], None], message: list[object], unstamped: Path
) -> None:
    spoil(unstamped)
    before = results(unstamped)
    with inside(unstamped), pytest.raises(MoonshineError, match=naming(*message)):
        restore("tiny")
    after = results(unstamped)
    assert {path for path in after if ".work" not in path.parts} == set(before)
    assert all(after[path] == content for path, content in before.items())


def test_networks_without_weights_are_left_to_train(unstamped: Path) -> None:
    def forget(record: dict[str, Any]) -> None:
        record["kept"].remove("scratch@tiny-G4-0")

    path = unstamped / "records/tiny/record.json"
    content = json.loads(path.read_text())
    forget(content)
    path.write_text(json.dumps(content))
    with inside(unstamped):
        assert "restored 1 trained network of tiny; 2 are left to train" in restore("tiny")
    assert not (unstamped / "results/tiny/students/G4/scratch").exists()


def test_the_command_reports_an_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with inside(here):
        assert main(["records", "restore", "letters"]) == 2
    assert "'letters'; recorded: tiny" in capsys.readouterr().err
    assert Record.read(here / "records/tiny/record.json").finished is False
