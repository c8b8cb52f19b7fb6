"""The stages with a teacher that starts from weights for other classes, and with recipes of single networks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from moonshine.config import load_study
from moonshine.errors import MoonshineError
from moonshine.files import read_csv, sha256
from moonshine.structures.artifacts import load
from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.mistakes import USAGE_ERROR
from moonshine_workflow.report.provenance import facts
from moonshine_workflow.report.results import load_results
from moonshine_workflow.report.sections import notices
from moonshine_workflow.tables.collect import check_configurations, collect
from tests.messages import names
from tests.workflow import tiny
from tests.workflow.running import run

NETS = """
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.a, self.b = nn.Conv2d(inputs, outputs, 3, 2, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.skip = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, x):
        return self.b(self.a(x).relu()) + self.skip(x)


class Net(nn.Module):
    def __init__(self, classes=2, width=8):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, width, 3, 1, 1), nn.BatchNorm2d(width)
        self.one, self.two = Block(width, 16), Block(16, 32)
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        return self.head(self.two(self.one(self.norm(self.stem(x)))).mean((2, 3)))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with prepared data, her module, and a checkpoint for seven classes where the data have two."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "seven_nets.py").write_text(NETS)
    save_weights(classes=7)
    tiny.write_study(tmp_path, study())
    assert run("fetch") == 0
    yield tmp_path
    sys.modules.pop("seven_nets", None)


def save_weights(**kwargs: int) -> None:
    torch.manual_seed(1)
    network = import_module("seven_nets").Net(**kwargs)
    torch.save({"model": network.state_dict(), "optimizer": {"state": {}}}, "seven.pt")


def study(**changes: Any) -> dict[str, Any]:
    teacher = {
        "model": "seven_nets:Net",
        "weights": "seven.pt",
        "weights_sha256": sha256(Path("seven.pt")),
        "head": "replace",
        "finetune": {"epochs": 1, "freeze": "stem"},
        "seed": 0,
    }
    students = {
        "short": {"kwargs": {"width": 4}, "block": "S", "training": {"epochs": 1, "batch_size": 10}},
        "other": {"block": "G(4)"},
    }
    return tiny.study(**{"teacher": teacher, "students": students, "methods": {}, **changes})


def test_a_pretrained_teacher_gets_a_new_head_and_is_trained_on(here: Path) -> None:
    assert run("teacher") == 0
    given = torch.load("seven.pt")["model"]
    made = nodes.teacher("tiny").folder
    found = load(made, trust="seven_nets").state_dict()
    start = StudyStructure.read(made / "structure.json").start
    assert start
    assert (start.weights, start.sha256) == ("seven.pt", sha256(here / "seven.pt"))
    assert (start.drawn, start.frozen) == (("head.weight", "head.bias"), ("stem", "norm"))
    kept = {name for name in given if name not in start.drawn and torch.equal(found[name], given[name])}
    assert kept == {name for name in given if name.startswith(("stem.", "norm."))}
    assert len(found["head.bias"]) == 2
    assert [row["epoch"] for row in read_csv(made / "history.csv")] == ["0"]
    config = json.loads((made / "config.json").read_text())
    assert (config["training"]["epochs"], config["training"]["batch_size"]) == (1, 16)


def test_weights_that_fit_neither_way_leave_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_weights(classes=7, width=4)
    tiny.write_study(here, study())
    assert run("teacher") == USAGE_ERROR
    assert names(capsys.readouterr().err, "teacher.weights", "seven.pt", "another architecture", "new head")
    assert not (here / "results/tiny/teacher").exists()


def test_students_train_by_their_own_recipes_and_the_report_tells_them_apart(here: Path) -> None:
    assert run("teacher") == 0
    for student in ("short", "other"):
        for stage_name in ("structure", "measure"):
            assert run(stage_name, student) == 0
        assert run("scratch", student, "0") == 0
    rows = {
        student: len(read_csv(nodes.scratch("tiny", student, 0).folder / "history.csv"))
        for student in ("short", "other")
    }
    assert rows == {"short": 1, "other": 2}
    assert run("measure") == 0
    tables = json.loads(collect(load_study())["tables/tables.json"])
    assert [each["terms"] for each in tables["runs"]] == ["finetuned", "scratch", "scratch"]
    assert list(tables["rows"][0]["errors"]) == ["teacher"]
    assert run("collect") == 0
    results = load_results("tiny")
    assert names(notices(results).html, "not all trained alike", "short; G(4)")
    said = facts(results).html
    assert "18 tensors loaded from seven.pt" in said
    assert names(said, "Training of teacher", "Training of short", "Training of G(4)", "head.bias")

    content = study()
    content["students"]["short"]["training"]["epochs"] = 2
    tiny.write_study(here, content)
    with pytest.raises(
        MoonshineError, match="scratch@tiny-short-0 was trained with other values of training"
    ):
        check_configurations(load_study())
