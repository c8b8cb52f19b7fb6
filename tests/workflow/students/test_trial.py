"""What somebody's network cannot train on, keep or ship is told before it trains; what can be done is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from moonshine.structures.artifacts import load
from tests.messages import names
from tests.workflow import tiny
from tests.workflow.running import run

HINTS = {"hint": "stage2", "guided": "stage2", "epochs": 1, "weight": 1.0}

NETS = """
import threading
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, end=None):
        super().__init__()
        self.stem, self.body = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head, self.end = nn.Linear(8, 2), end or nn.Identity()

    def features(self, x):
        return self.body(torch.relu(self.stem(x)))

    def forward(self, x):
        return self.end(self.head(self.features(x).mean((2, 3))))


class Flattening(Net):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8 * 64, 2)

    def forward(self, x):
        x = self.features(x)
        return self.head(x.view(x.size(0), -1))


class Tied(Net):
    def __init__(self):
        super().__init__()
        self.more = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)])
        self.more[2] = self.more[1]  # registered twice
        self.more[0].weight = self.more[1].weight

    def features(self, x):
        x = super().features(x)
        for layer in self.more:
            x = layer(x)
        return x


class Auxiliary(Net):
    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


class ViewsInTraining(Flattening):
    def forward(self, x):
        x = self.features(x)
        return self.head(x.view(x.size(0), -1) if self.training else x.flatten(1))


class Branching(Net):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


class ExtraState(Net):
    def get_extra_state(self):
        return {"version": 2}

    def set_extra_state(self, state):
        pass


class Unkept(Net):
    def __init__(self):
        super().__init__()
        self.offset = torch.randn(2)

    def forward(self, x):
        return super().forward(x) + self.offset


class MixesTypes(Net):
    def forward(self, x):
        logits = super().forward(x)
        return torch.zeros(len(x), 2).index_add(0, torch.arange(len(x)), logits)


class OptimizedModule(Net):  # named as what torch.compile returns, without the seconds that loading it takes
    pass


def softmax():
    return Net(nn.Softmax(1))


def half():
    return Net().half()


def double():
    return Net().double()


def lazy():
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def scripted():
    return torch.jit.script(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten()))


def frozen():
    return Net().requires_grad_(False)


def old_weight_norm():
    net = Net()
    nn.utils.weight_norm(net.stem)
    return net
"""
SHIP = {
    "budget": "1MB",
    "allowed_error_pct": None,
    "calibration_images": 8,
    "logit_tolerance": 0.001,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared data beside the user's module."""
    made = tmp_path_factory.mktemp("trial")
    (made / "trial_nets.py").write_text(NETS)
    tiny.write_study(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.syspath_prepend(str(made))
        assert run("fetch") == 0
        yield made
    sys.modules.pop("trial_nets", None)


def written(folder: Path, builder: str, **sections: Any) -> None:
    content = yaml.safe_load((folder / "params.yaml").read_text())
    name = builder if "/" in builder else f"trial_nets:{builder}"
    sections = {"students": {"G4": {"block": "G(4)"}}, "ship": None, **sections}
    (folder / "params.yaml").write_text(
        yaml.safe_dump({**content, "teacher": {"model": name, "seed": 0}, **sections})
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("builder", "ships", "message"),
    [
        ("softmax", False, ["teacher", "probabilities", "2 classes"]),
        ("Auxiliary", False, ["teacher", "training mode", "tuple", "(2, 2)"]),
        ("ViewsInTraining", False, ["1x8x8", "(channels_last, float32)", "view size"]),
        ("ExtraState", False, ["teacher", "_extra_state", "ExtraState", "dict"]),
        ("Unkept", False, ["teacher", "other logits"]),
        ("MixesTypes", False, ["1x8x8", "(channels_last, bfloat16)", "index_add_"]),
        ("half", False, ["trial_nets:half", "stem.weight", "torch.float16", "torch.float32"]),
        ("double", False, ["trial_nets:double", "stem.weight", "torch.float64", "torch.float32"]),
        ("lazy", False, ["trial_nets:lazy", "0.weight", "shape"]),
        ("scripted", False, ["trial_nets:scripted", "TorchScript", "torch.jit"]),
        ("OptimizedModule", False, ["compiled", "torch.compile"]),
        ("frozen", False, ["does not require grad"]),
        ("Branching", True, ["teacher", "torch-export"]),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_before_training(
    folder: Path, capsys: pytest.CaptureFixture[str], builder: str, ships: bool, message: list[object]
) -> None:
    precision = "bf16" if builder == "MixesTypes" else "fp32"
    training = {**tiny.STUDY["training"], "precision": precision}
    written(folder, builder, ship=SHIP if ships else None, training=training)
    assert run("teacher") == 2
    said = capsys.readouterr().err
    assert names(said, *message)
    assert "Traceback" not in said
    assert not list((folder / "results/tiny").glob("teacher/*"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("builder", ["Flattening", "Tied", "old_weight_norm"])
def test_what_can_be_done_is_done(folder: Path, builder: str, capsys: pytest.CaptureFixture[str]) -> None:
    written(folder, builder, ship=SHIP)
    for command in (("structure", "G4"), ("measure", "G4"), ("teacher",), ("distil", "G4", "at", "0")):
        assert run(*command) == 0, capsys.readouterr().err
    assert ("in torch's default memory layout only" in capsys.readouterr().err) == (builder == "Flattening")
    trained = folder / "results/tiny/students/G4/at/seed0"
    network = load(trained, trust="trial_nets")
    images = torch.zeros(2, 1, 8, 8)
    assert torch.equal(network(images), load(trained, trust="trial_nets")(images))
    if builder == "Tied":
        assert network.more[0].weight is network.more[1].weight  # type: ignore[index, union-attr]
        cost = json.loads((folder / "results/tiny/students/G4/cost.json").read_text())
        assert cost["bytes"]["fp32"] == (trained / "weights.safetensors").stat().st_size
    for path in folder.glob("results/tiny/teacher/*"):
        path.unlink()


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"hint": "stage7"}, ["methods.fit", "hints.hint", "stage7", "teacher", "stage2"]),
        ({"guided": "stage3"}, ["methods.fit", "hints.guided", "stage3", "2x2", "4x4"]),
    ],
)
@pytest.mark.parametrize("program", ["teacher", "structure"])
def test_hints_between_layers_that_do_not_go_together_are_refused_before_anything_trains(
    program: str, changes: dict[str, str], facts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    tiny.write_study(tmp_path, tiny.study(methods={"fit": {"hints": {**HINTS, **changes}}}))
    assert run("fetch") == 0
    assert run(program, *(["G4"] if program == "structure" else [])) == 2
    assert names(capsys.readouterr().err, *facts)
    assert not list(tmp_path.glob("results/tiny/teacher/*"))
