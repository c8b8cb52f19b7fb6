"""``moonshine init``: what it writes into a folder, and what it refuses before anything is written."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import moonshine
from moonshine.blocks import presets
from moonshine.config import load_study
from moonshine_workflow import cli
from moonshine_workflow.engines import dvc_state
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.check import check_study
from tests.messages import names
from tests.workflow import tiny
from tests.workflow.clones import PROJECT

NETS = """\
import moonshine


def build(classes):
    return moonshine.build("wrn-10-1", "S", classes, 1)


def broken():
    raise RuntimeError("no such layer")
"""
OWN = ("init", "mine", "--model", "init_nets:build", "--data", "stripes.npz")
GRAPH = {"Snakefile", "dvc.yaml", ".gitignore", ".dvcignore", ".dvc", "profiles"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own: arrays, and a network of two classes with its checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "init_nets", raising=False)
    tiny.write_arrays(tmp_path / "stripes.npz")
    (tmp_path / "init_nets.py").write_text(NETS)
    network = moonshine.build("wrn-10-1", "S", 2, 1)
    torch.save({"model": network.state_dict(), "optimizer": {"state": {}}}, tmp_path / "w.pt")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command says that fails and leaves the folder as it is."""
    before = _files()
    assert cli.main(list(arguments)) == 2
    assert _files() == before
    return capsys.readouterr().err


def _files() -> dict[Path, bytes]:
    found = (path for path in Path().rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path: path.read_bytes() for path in found}


def test_a_study_of_ones_own_is_written_and_says_what_was_assumed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = "60k params"
    assert cli.main([*OWN, "--weights", "w.pt", "--budget", budget]) == 0
    said = capsys.readouterr().out
    study = load_study()
    assert study.study == "mine"
    assert study.teacher.kwargs == {"classes": 2}
    assert (study.teacher.weights, len(study.teacher.weights_sha256 or "")) == ("w.pt", 64)
    assert study.ship is not None
    assert study.ship.budget == budget
    assert study.students["mix"].mixed is not None
    assert any(student.block for student in study.students.values())
    assert {path.name for path in folder.iterdir()} >= GRAPH
    for each in ("2 classes", "50 training images", "classes=2", "20%", "normalisation"):
        assert each in said
    assert "no_scm" in (folder / ".dvc" / "config").read_text()


def test_images_in_folders_are_looked_at(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test", "val"):
        for name, colour in (("dark", 10), ("light", 200)):
            (folder / "shots" / split / name).mkdir(parents=True)
            for number in range(2):
                image = Image.fromarray(np.full((44, 60, 3), colour + number, dtype=np.uint8))
                image.save(folder / "shots" / split / name / f"{number}.png")
    assert cli.main(["init", "shots", "--model", "wrn-10-1", "--data", "shots"]) == 0
    data = load_study().data
    assert (data.resize, data.crop, data.validation) == (40, 40, 0.0)  # type: ignore[union-attr]
    assert "dark, light" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("classes", "keys", "expected"),
    [
        (5, ["model"], {"head": "replace"}),
        (2, ["backbone"], {"weights_prefix": "backbone."}),
        (2, ["net", "ema"], {"weights_prefix": "net."}),
        (5, ["backbone"], {"head": "replace", "weights_prefix": "backbone."}),
    ],
)
def test_weights_fit_with_a_new_head_or_a_prefix(
    classes: int, keys: list[str], expected: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = moonshine.build("wrn-10-1", "S", classes, 1).state_dict()
    nested = (
        dict.fromkeys(keys, state) if len(keys) > 1 else {f"{keys[0]}.{name}": state[name] for name in state}
    )
    torch.save(nested, folder / "w.pt")
    assert cli.main([*OWN, "--weights", "w.pt"]) == 0
    teacher = load_study().teacher
    assert {
        key: getattr(teacher, key) for key in ("head", "weights_prefix") if getattr(teacher, key)
    } == expected
    assert (teacher.finetune is not None) == ("head" in expected)
    said = capsys.readouterr().out
    assert ("new head" in said, "w.pt" in said) == ("head" in expected, True)


def test_a_budget_that_nothing_fits_is_said_and_the_study_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*OWN, "--budget", "1k params"]) == 0
    said = capsys.readouterr().out
    assert "NOTHING FITS: budget 1k params" in said
    assert "mix" not in load_study().students


def test_the_smallest_blocks_are_written_where_none_of_the_usual_fits(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*OWN, "--budget", "5k params"]) == 0
    assert "NOTHING FITS" not in capsys.readouterr().out
    students = load_study().students
    assert students["mix"].mixed is not None
    assert students["mix"].mixed.blocks == "small"
    assert {student.block for student in students.values()} & {*presets.SMALL}


@pytest.mark.parametrize(
    ("model", "budget", "said"),
    [
        ("init_nets:build", "60k params", ["init_nets:build", "family", "thin"]),
        ("wrn-10-1", "60k params", None),
        ("wrn-10-1", "2 params", ["wrn-10-1", "2 params", "smallest", "thin"]),
    ],
)
def test_a_rival_is_written_where_there_is_one(
    model: str, budget: str, said: list[object] | None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*OWN, "--model", model, "--budget", budget]) == 0
    out = capsys.readouterr().out
    assert ("narrow" in load_study().students) == (said is None) == ("to compare with" not in out)
    assert said is None or names(out, *said)


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".gitignore").write_text("mine\n")
    (folder / "params.yaml").write_text("study: mine\n")
    assert names(refused(capsys, *OWN), "params.yaml", "overwritten")
    assert cli.main(["init", "--graph"]) == 0
    assert (folder / ".gitignore").read_text() == "mine\n"
    assert "left as it is: .gitignore" in capsys.readouterr().out
    assert (folder / "params.yaml").read_text() == "study: mine\n"
    assert names(refused(capsys, *OWN), "params.yaml", "Snakefile", "dvc.yaml", "--graph")
    (folder / "dvc.yaml").unlink()
    assert cli.main(["init", "--graph"]) == 0
    assert "wrote dvc.yaml\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--model", "init_nets:broken"], ["--model", "init_nets:broken", "no such layer"]),
        (["--model", "init_nets:buld"], ["--model", "buld", "build"]),
        (["--model", "torchvision/resnet8"], ["torchvision/resnet8", "unknown", "resnet18"]),
        (["--kwargs", "classes: 2"], ["--kwargs", "classes: 2", "JSON"]),
        (["--kwargs", '{"classes": 3}'], ["--model", "(1, 3)", "(1, 2)"]),
        (["--weights", "absent.pt"], ["--weights", "absent.pt", "safetensors"]),
        (["--weights", "other.pt"], ["--weights", "other.pt", "stage1.1"]),
        (["--data", "absent"], ["--data", "absent", "folder", ".npz"]),
        (["--data", "bare"], ["--data", "bare", "train/"]),
        (["--data", "flat"], ["--data", "flat", "no class folders"]),
        (["--budget", "1 mb"], ["1 mb", "1.2MB"]),
        (["--study", "digits"], ["--study"]),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    change: list[str], said: list[object], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(moonshine.build("wrn-16-1", "S", 2, 1).state_dict(), folder / "other.pt")
    for name in ("bare", "flat/train", "flat/test"):
        (folder / name).mkdir(parents=True)
    assert names(refused(capsys, *OWN, *change), *said)


def test_a_budget_of_latency_is_left_to_the_plan(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*OWN, "--budget", "60k params", "--budget", "15ms"]) == 0
    assert "moonshine plan` measures" in capsys.readouterr().out
    assert load_study().ship is not None


def test_published_errors_of_the_package_are_found_before_an_engine_runs(folder: Path) -> None:
    assert cli.main(["init", "--study", "cifar10"]) == 0
    study = load_study()
    assert study.report.published
    check_study(study)


def test_a_study_that_comes_with_the_package(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(refused(capsys, "init", "--study", "digit"), "--study", "digit", "digits")
    assert cli.main(["init", "--study", "digits"]) == 0
    assert (folder / nodes.PARAMS).read_bytes() == (PROJECT / "studies" / "digits.yaml").read_bytes()


def test_a_clone_needs_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(PROJECT)
    assert cli.main(["init", "--study", "digits"]) == 2
    assert names(capsys.readouterr().err, PROJECT, "clone")


def test_a_module_with_a_name_of_the_librarys_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "moonshine.py").touch()
    assert names(refused(capsys, *OWN), "moonshine.py", "hides")


def test_without_an_extra_one_message_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["init", "--study", "digits"]) == 0
    monkeypatch.setattr(dvc_state, "find_spec", lambda name: None)
    assert cli.main(["repro"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert names(said, "dvc", "moonshine-distil[pipeline]")
