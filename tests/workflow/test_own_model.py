"""The stages with somebody's own network: what they write, and that each mistake is one message that names its key."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from moonshine.config import load_study
from moonshine.export.timings import measure_file
from moonshine.export.writing import write_files
from moonshine.files import sha256
from moonshine.structures.artifacts import load
from moonshine.structures.build import from_structure
from moonshine.structures.structure import Structure
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.mistakes import USAGE_ERROR
from moonshine_workflow.students.layouts import images_of
from moonshine_workflow.students.sizes import about_of
from moonshine_workflow.training.progress import Progress
from tests.messages import names
from tests.workflow import tiny
from tests.workflow.running import run

NETS = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.a, self.b = nn.Conv2d(inputs, outputs, 3, 2, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.norm, self.skip = nn.BatchNorm2d(outputs), nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, x):
        return self.b(torch.relu(self.norm(self.a(x)))) + self.skip(x)


class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(channels, 8, 3, 1, 1), Block(8, 16), Block(16, 32)
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        return self.head(self.two(self.one(self.stem(x))).mean((2, 3)))


class Flat(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.conv, self.next = nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.head = nn.Linear(4 * size * size, 2)

    def forward(self, x):
        return self.head(self.next(self.conv(x)).flatten(1))


def build(channels=1, classes=2):
    return Net(channels, classes)


def flat(size):
    return Flat(size)


def nothing_to_swap():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))


class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.next = nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.also, self.head = [self.next], nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.also[0](self.conv(x)).mean((2, 3)))


def hidden():
    return Hidden()


def no_module():
    return 3
"""
OWN = {"model": "tiny_nets:build", "seed": 0}


def study(**sections: Any) -> dict[str, Any]:
    return tiny.study(**{"teacher": OWN, "students": {"G4": {"block": "G(4)"}}, **sections})


def change(**sections: Any) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump({**content, **sections}, sort_keys=False))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with prepared data and the user's module, which no other test has imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tiny_nets.py").write_text(NETS)
    tiny.write_study(tmp_path, study())
    assert run("fetch") == 0
    yield tmp_path
    sys.modules.pop("tiny_nets", None)


def laid_out(student: str) -> dict[str, Any]:
    return dict(json.loads(nodes.structure("tiny", student).outputs[0].read_text()))


def test_her_network_is_laid_out_trained_and_distilled(here: Path) -> None:
    for command in (("structure", "G4"), ("measure", "G4"), ("teacher",), ("distil", "G4", "at", "0")):
        assert run(*command) == 0
    found = laid_out("G4")
    assert found["blocks"] == {"one": "G(4)", "two": "G(4)"}
    assert found["taps"] == ["one", "two"]
    assert found["kept"]["stem"] == "the stem"
    student = load(here / "results/tiny/students/G4/at/seed0", trust="tiny_nets")
    assert sum(parameter.numel() for parameter in student.parameters()) == found["parameters"]
    assert "at" in (here / "results/tiny/students/G4/at/seed0/history.csv").read_text().splitlines()[0]


def test_a_process_that_times_a_file_of_hers_finds_her_module(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("structure", "G4") == 0
    given, structure = load_study(), Structure.read(nodes.structure("tiny", "G4").outputs[0])
    about = about_of(images_of(given), structure)
    network = from_structure(structure, given.trusted)
    (here / "files").mkdir()
    write_files(network, here / "files", about, torch.zeros(1, *about.input_shape), ["safetensors"])
    path = here / "files" / "network.safetensors"
    monkeypatch.chdir(path.parent)  # where her module is not
    timing = measure_file(path, about.input_shape, batches=[1], seconds=0.0, trust=given.trusted)
    assert timing.batches[0].median_ms > 0


def test_a_teacher_with_weights_is_evaluated_and_not_trained(here: Path) -> None:
    tiny_nets = import_module("tiny_nets")

    network = tiny_nets.build()
    network.head.bias.data = torch.tensor([100.0, 0.0])  # names the first class, whatever it sees
    torch.save(network.state_dict(), here / "hers.pt")
    change(teacher={**OWN, "weights": "hers.pt", "weights_sha256": sha256(here / "hers.pt")})
    assert run("teacher") == 0
    warnings = json.loads((here / "results/tiny/teacher/metrics.json").read_text())["warnings"]
    assert warnings.count("50.00 %") == 2
    assert "its validation error is too low" in warnings
    metrics = json.loads((here / "results/tiny/teacher/metrics.json").read_text())
    assert (metrics["epochs_run"], metrics["train"]) == (0, None)
    assert metrics["test"]["examples"] == 20
    kept = load(here / "results/tiny/teacher", trust="tiny_nets").state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), 3e38])
def test_weights_that_give_no_numbers_are_refused_and_leave_nothing(
    value: float, here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = import_module("tiny_nets").build()
    network.head.weight.data[:] = value
    torch.save(network.state_dict(), here / "hers.pt")
    change(teacher={**OWN, "weights": "hers.pt", "weights_sha256": sha256(here / "hers.pt")})
    assert run("teacher") == USAGE_ERROR
    assert "teacher.weights: " in caplog.messages[-1]
    assert "not finite" in caplog.messages[-1]
    assert not nodes.teacher("tiny").is_done()


def test_a_mixed_student_keeps_to_its_budget_and_says_what_others_would_have_chosen(here: Path) -> None:
    mixed = {"budget": "9k params", "candidates": 6, "best": 2, "initialisations": 2, "batch_size": 8}
    change(students={"mix": {"mixed": mixed}})
    assert run("structure", "mix") == 0
    found = laid_out("mix")
    assert found["parameters"] <= 9000
    assert found["block"] == "mixed"
    assert found["search"]["chosen"]["parameters"] == found["parameters"]
    assert {"fisher", "parameters", "macs", "random"} <= found["search"]["winners"].keys()
    first = nodes.structure("tiny", "mix").outputs[0].read_bytes()
    assert run("structure", "mix") == 0
    assert nodes.structure("tiny", "mix").outputs[0].read_bytes() == first
    assert run("scratch", "mix", "0") == 0


def test_blocks_by_place_in_a_network_of_her_own_and_again_from_its_file(here: Path) -> None:
    change(students={"mine": {"blocks": {"one": "G(4)", "*": "B(2)"}}, "again": {"structure": "mine.json"}})
    (here / "mine.json").write_text("{}")
    assert run("structure", "again") == USAGE_ERROR
    Structure(network="", num_classes=1, in_channels=1, blocks={"one": "G(4)", "two": "B(2)"}).write(
        here / "mine.json"
    )
    for student in ("mine", "again"):
        assert run("structure", student) == 0
        found = laid_out(student)
        assert (found["block"], found["blocks"]) == ("mixed", {"one": "G(4)", "two": "B(2)"})
    assert run("scratch", "mine", "0") == 0


def test_a_student_that_costs_more_than_its_teacher_is_told(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(teacher={"model": "tiny_nets:flat", "kwargs": {"size": 8}, "seed": 0})
    for block, told in (("G(1)", True), ("G(4)", False)):
        change(students={"G4": {"block": block}})
        assert run("structure", "G4") == 0
        said = re.search(r"students\.G4 costs more than the teacher: 1\.\d\d times", capsys.readouterr().err)
        assert bool(said) == told


def test_finalists_are_trained_before_the_choice(here: Path) -> None:
    finalists = {"count": 2, "epochs": 1, "batch_size": 16, "lr": 0.05}
    mixed = {"budget": "9k params", "candidates": 4, "best": 2, "initialisations": 1, "batch_size": 8}
    change(students={"mix": {"mixed": {**mixed, "finalists": finalists}}})
    assert run("structure", "mix") == 0
    search = laid_out("mix")["search"]
    errors = [each["error"] for each in search["finalists"]]
    assert len(errors) == 2
    assert search["chosen"]["error"] == min(errors)
    said = nodes.structure("tiny", "mix").log.read_text()
    assert "3 of 3 networks scored" in said
    assert "2 of 2 finalists trained" in said


def test_a_study_runs_no_code_that_only_its_results_name(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run("structure", "G4") == 0
    path, made = nodes.structure("tiny", "G4").outputs[0], here / "made"
    path.write_text(json.dumps({**laid_out("G4"), "network": "os:mkdir", "kwargs": {"path": str(made)}}))
    for command in (("scratch", "G4", "0"), ("measure", "G4")):
        assert run(*command) == USAGE_ERROR
        assert names(caplog.messages[-1], "os:mkdir", "not trusted")
    assert not made.exists()


def test_a_warm_start_gives_other_weights_than_a_cold_one(here: Path) -> None:
    warm = {"block": "G(4)", "warm_start": {"fit": "least-squares", "batches": 1}}
    change(students={"cold": {"block": "G(4)"}, "warm": warm})
    assert run("teacher") == 0
    for student in ("cold", "warm"):
        assert run("structure", student) == 0
        assert run("distil", student, "at", "0") == 0
    cold, started = (
        load(here / f"results/tiny/students/{name}/at/seed0", trust="tiny_nets") for name in ("cold", "warm")
    )
    assert cold.state_dict().keys() == started.state_dict().keys()
    assert not torch.equal(cold.state_dict()["stem.weight"], started.state_dict()["stem.weight"])
    log = (here / "results/tiny/logs/distil@tiny-warm-at-0.log").read_text()
    assert "relative error of one" in log


def test_a_warm_start_is_not_computed_again_where_training_continues(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = {"block": "G(4)", "warm_start": {"fit": "least-squares", "batches": 1}}
    change(students={"warm": warm}, training={**tiny.STUDY["training"], "epochs": 3})
    for command in (("teacher",), ("structure", "warm")):
        assert run(*command) == 0
    made = nodes.distil("tiny", "warm", "at", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "epoch", dies_after(2))
        assert run("distil", "warm", "at", "0") == 1
    with monkeypatch.context() as patch:
        patch.setattr("moonshine.distillation.warm_start.warm_start", None)
        assert run("distil", "warm", "at", "0") == 0
    resumed = (made.folder / "weights.safetensors").read_bytes()
    for path in made.outputs:
        path.unlink()
    assert run("distil", "warm", "at", "0") == 0
    assert (made.folder / "weights.safetensors").read_bytes() == resumed


def dies_after(epochs: int) -> Any:
    rows: list[Any] = []

    def epoch(self: Progress, row: Any) -> None:
        rows.append(row)
        if len(rows) == epochs:
            raise RuntimeError("killed")

    return epoch


def test_a_rival_of_a_network_of_ours_is_within_the_budget(here: Path) -> None:
    change(
        teacher={"network": "wrn-16-1", "seed": 0},
        students={"width": {"rival": {"scale": "width", "budget": "60k params"}}},
    )
    assert run("structure", "width") == 0
    found = laid_out("width")
    assert found["network"].startswith("wrn-16-0.")
    assert 40_000 < found["parameters"] <= 60_000


TEACHERS: dict[str, tuple[dict[str, Any], list[object]]] = {
    "does not import": ({"model": "tiny_nots:build"}, ["tiny_nots"]),
    "no such function": ({"model": "tiny_nets:biuld"}, ["tiny_nets", "biuld", "build"]),
    "no module": ({"model": "tiny_nets:no_module"}, ["tiny_nets:no_module", "int"]),
    "wrong arguments": (
        {"model": "tiny_nets:build", "kwargs": {"depth": 3}},
        ["{'depth': 3}"],
    ),
    "another input": (
        {"model": "tiny_nets:build", "kwargs": {"channels": 3}},
        ["1x8x8"],
    ),
    "another size": ({"model": "tiny_nets:flat", "kwargs": {"size": 9}}, ["1x8x8"]),
    "other classes": ({"model": "tiny_nets:build", "kwargs": {"classes": 5}}, ["(1, 5)"]),
    "nothing to swap": ({"model": "tiny_nets:nothing_to_swap"}, ["no convolution"]),
    "pattern without a match": (
        {"model": "tiny_nets:build", "exclude": ["three.*"]},
        ["pattern", "three.*"],
    ),
    "taps that do not exist": (
        {"model": "tiny_nets:build", "taps": ["three"]},
        ["teacher.taps", "three"],
    ),
    "taps without a map": (
        {"model": "tiny_nets:build", "taps": ["head"]},
        ["teacher.taps", "head"],
    ),
}


@pytest.mark.parametrize("case", TEACHERS)
def test_a_network_that_will_not_do_is_one_message(
    case: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section, said = TEACHERS[case]
    change(teacher={**section, "seed": 0})
    assert run("structure", "G4") == USAGE_ERROR
    shown = capsys.readouterr().err
    assert names(shown, *said)
    assert "teacher" in shown
    assert "Traceback" not in shown
    assert not nodes.structure("tiny", "G4").outputs[0].exists()


STUDENTS: dict[str, tuple[dict[str, Any], list[object]]] = {
    "a block that fits nowhere": ({"block": "G(5)"}, ["students.G4"]),
    "taps of another size": ({"network": "wrn-10-1"}, ["students.G4"]),
    "an impossible budget": ({"mixed": {"budget": "1B"}}, ["students.G4", "budget", "1B"]),
    "a budget of nothing": ({"mixed": {"budget": "0MB"}}, ["students.G4.mixed", "budget", "0MB"]),
    "no family": ({"rival": {"scale": "width", "budget": "1MB"}}, ["students.G4"]),
    "a pattern of no place": (
        {"blocks": {"three": "S", "*": "G(4)"}},
        ["students.G4.blocks", "'three'", "one, two"],
    ),
    "a place without a pattern": (
        {"blocks": {"one.a": "S", "one": "G(4)"}},
        ["students.G4.blocks", "'one.a'"],
    ),
    "a block that does not fit its place": (
        {"blocks": {"two": "G(3)", "*": "S"}},
        ["students.G4.blocks", "G(3)", "two"],
    ),
    "ordinary blocks by place": ({"blocks": {"*": "S"}}, ["students.G4", "teacher itself"]),
    "the teacher itself": ({"block": "S"}, ["students.G4", "teacher itself"]),
    "no split for finalists": (
        {
            "mixed": {
                "budget": "9k params",
                "finalists": {"count": 1, "epochs": 1, "batch_size": 8, "lr": 0.1},
            }
        },
        ["no validation split"],
    ),
}


@pytest.mark.parametrize("case", STUDENTS)
def test_a_student_that_cannot_be_is_one_message(
    case: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section, said = STUDENTS[case]
    if "finalists" in case:
        content = yaml.safe_load(Path("params.yaml").read_text())
        change(data={**content["data"], "validation": 0.0})
        assert run("fetch") == 0
    change(students={"G4": section})
    assert run("structure", "G4") == USAGE_ERROR
    shown = capsys.readouterr().err
    assert names(shown, *said)
    assert "Traceback" not in shown
    assert not nodes.structure("tiny", "G4").outputs[0].exists()


def test_a_block_that_her_code_would_not_run_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(teacher={"model": "tiny_nets:hidden", "seed": 0})
    assert run("structure", "G4") == USAGE_ERROR
    assert names(capsys.readouterr().err, "students.G4", "Hidden")


def test_weights_of_another_network_are_refused_before_anything_is_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"stem.weight": torch.ones(1)}, here / "hers.pt")
    change(teacher={**OWN, "weights": "hers.pt", "weights_sha256": sha256(here / "hers.pt")})
    assert run("teacher") == USAGE_ERROR
    assert names(capsys.readouterr().err, "another architecture", "missing")
    assert not (here / "results/tiny/teacher").exists()


def test_a_changed_builder_is_noticed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("structure", "G4") == 0
    (here / "tiny_nets.py").write_text(NETS + "\n# changed\n")
    assert run("scratch", "G4", "0") == USAGE_ERROR
    assert names(capsys.readouterr().err, "tiny_nets:build", "has changed")
