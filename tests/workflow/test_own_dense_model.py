"""The stages with somebody's own network that labels every pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from moonshine.artifacts import load
from tests.workflow import tiny
from tests.workflow.stages import run
from workflow import cli, mixing, nodes, stage

NETS = "tests.moonshine.odd_networks"
OWN = {"model": f"{NETS}:Dense", "kwargs": {"classes": 4}, "seed": 0}
STUDY = tiny.study(
    data={
        "name": "generated",
        "kind": "maps",
        "classes": 4,
        "size": 12,
        "train": 8,
        "test": 3,
        "seed": 0,
        "validation": 0.0,
        "split_seed": 0,
    },
    teacher=OWN,
    students={"G4": {"block": "G(4)"}, "mix": {"mixed": {"budget": "2500 params", "candidates": 4}}},
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with prepared label maps."""
    monkeypatch.chdir(tmp_path)
    tiny.write_study(tmp_path, STUDY)
    assert run("fetch") == 0
    return tmp_path


def laid_out(student: str) -> dict[str, Any]:
    return dict(json.loads(nodes.structure("tiny", student).outputs[0].read_text()))


def test_it_is_laid_out_trained_and_distilled(here: Path) -> None:
    for command in (
        ("structure", "G4"),
        ("measure", "teacher"),
        ("teacher",),
        ("scratch", "G4", "0"),
        ("distil", "G4", "at", "0"),
    ):
        assert run(*command) == 0
    found = laid_out("G4")
    assert found["blocks"] == {"block": "G(4)", "tail": "G(4)"}
    assert found["taps"] == ["tail"]
    student = load(here / "results/tiny/students/G4/scratch/seed0")
    assert sum(parameter.numel() for parameter in student.parameters()) == found["parameters"]
    metrics = json.loads((here / "results/tiny/students/G4/scratch/seed0/metrics.json").read_text())
    assert "miou_pct" in metrics["test"]


def test_its_blocks_are_searched_for_and_planned(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("structure", "mix") == 0
    found = laid_out("mix")
    assert found["parameters"] <= 2500
    assert "images" not in found["search"]
    monkeypatch.setattr(mixing, "PIXELS", 3 * 12 * 24)
    assert run("structure", "mix") == 0
    assert laid_out("mix")["search"]["images"] == 3
    assert cli.main(["plan", "--budget", "2500 params", "--block", "G(4)"]) == 0
    asked = ["--model", f"{NETS}:Dense", "--input", "3x12x24", "--classes", "5", "--block", "G(4)"]
    assert cli.main(["plan", *asked, "--budget", "2500 params"]) == 0


def test_a_network_that_labels_whole_pictures_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {**STUDY, "teacher": {"model": f"{NETS}:Backwards", "seed": 0}}
    (here / "params.yaml").write_text(yaml.safe_dump(content))
    assert run("structure", "G4") == stage.USAGE_ERROR
    said = f"teacher: model {NETS}:Backwards: one image gives (1, 5); allowed: logits (1, 4, 12, 24)"
    assert said in capsys.readouterr().err
