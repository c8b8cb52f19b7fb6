"""Stages on pictures that are decoded as they are needed: what goes wrong in the middle of an epoch, and after that."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from moonshine.data.decoding import Pixels
from moonshine_workflow.graph.mistakes import USAGE_ERROR
from tests.messages import names
from tests.moonshine.datasets.flowers import plant
from tests.workflow import tiny
from tests.workflow.running import run

STUDY = tiny.study(
    data={
        "name": "picture_files",
        "root": "flowers",
        "resize": 18,
        "crop": 16,
        "validation": 0.0,
        "split_seed": 0,
        "normalisation": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    },
    augment={
        "crop_padding": 0,
        "flip": True,
        "resized_crop": {"scale": [0.08, 1.0], "ratio": [0.75, 1.3333]},
    },
    students={"G4": {"block": "G(4)"}},
)
WEIGHTS = Path("results/tiny/students/G4/scratch/seed0/weights.safetensors")
DATA = Path("results/tiny/data/dataset.json")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of small pictures with its data prepared and its student laid out."""
    monkeypatch.chdir(tmp_path)
    plant(
        tmp_path / "flowers",
        {f"{split}/{name}": 9 for split in ("train", "test") for name in ("iris", "rose")},
    )
    tiny.write_study(tmp_path, STUDY)
    assert run("fetch") == 0
    assert run("structure", "G4") == 0
    return tmp_path


def work(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "results/tiny/.work/scratch@tiny-G4-0").glob("epoch-*.pt"))


def set_runtime(**changes: Any) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["runtime"] |= changes
    Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def test_teacher_and_student_are_trained(here: Path) -> None:
    for command in (("teacher",), ("distil", "G4", "at", "0"), ("measure", "G4")):
        assert run(*command) == 0
    metrics = json.loads((here / "results/tiny/students/G4/at/seed0/metrics.json").read_text())
    assert metrics["test"]["examples"] == 18


def test_workers_change_no_weight(here: Path) -> None:
    found = set()
    for workers in (0, 2):
        set_runtime(workers=workers)
        assert run("scratch", "G4", "0") == 0
        found.add(WEIGHTS.read_bytes())
    assert len(found) == 1


def test_a_worker_that_dies_is_one_message_and_the_run_continues(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("scratch", "G4", "0") == 0
    expected = WEIGHTS.read_bytes()
    WEIGHTS.unlink()
    read = Pixels.__getitem__

    def die(self: Pixels, index: int) -> Any:
        if self.epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Pixels, "__getitem__", die)
        patch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))
        capsys.readouterr()
        assert run("scratch", "G4", "0") == USAGE_ERROR
    said = capsys.readouterr().err
    assert "a process that decodes images died (DataLoader worker (pid" in said
    assert "Traceback" not in said
    assert not WEIGHTS.exists()
    assert work(here) == ["epoch-00000.pt"]
    assert run("scratch", "G4", "0") == 0
    assert WEIGHTS.read_bytes() == expected


def test_a_picture_that_is_damaged_during_training_is_named_and_the_run_continues(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("scratch", "G4", "0") == 0
    expected, description = WEIGHTS.read_bytes(), DATA.read_bytes()
    WEIGHTS.unlink()
    picture = here / "flowers/train/iris/1.jpg"
    whole = picture.read_bytes()
    read = Pixels.__getitem__

    def damage(self: Pixels, index: int) -> Any:
        if self.epoch == 1:
            picture.write_bytes(whole[:100])
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Pixels, "__getitem__", damage)
        capsys.readouterr()
        assert run("scratch", "G4", "0") == USAGE_ERROR
    said = capsys.readouterr().err
    assert names(said, "flowers", "1 image", "train/iris/1.jpg")
    assert "Traceback" not in said
    assert not WEIGHTS.exists()
    assert work(here) == ["epoch-00000.pt"]
    assert DATA.read_bytes() == description
    picture.write_bytes(whole)
    assert run("scratch", "G4", "0") == 0
    assert WEIGHTS.read_bytes() == expected


def test_a_folder_that_is_not_there_is_one_message(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "flowers").rename(here / "elsewhere")
    assert run("fetch") == USAGE_ERROR
    assert names(capsys.readouterr().err, "data.root", "no folder")
    assert run("scratch", "G4", "0") == USAGE_ERROR
    assert names(capsys.readouterr().err, "cannot be read", "train/iris/")
