"""The stages with somebody's own network that labels every pixel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from moonshine.export.timings import Latency, Timing
from moonshine.files import read_csv
from moonshine.structures.artifacts import load
from moonshine_workflow import cli
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.mistakes import USAGE_ERROR
from moonshine_workflow.stages import shipping
from moonshine_workflow.students import mixing
from tests.messages import names
from tests.workflow import tiny
from tests.workflow.running import run

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
    methods={
        "at": tiny.STUDY["methods"]["at"],
        "all": {
            "kd": {"form": "unscaled", "temperature": 4.0, "alpha": 0.5, "standardise": True},
            "logits": {"weight": 0.1, "labels": 1.0},
            "dkd": {"temperature": 4.0, "alpha": 1.0, "beta": 2.0, "warmup": 0},
            "dist": {"temperature": 1.0, "beta": 1.0, "gamma": 1.0},
            "at": {"form": "resolution-free", "beta": 10.0},
        },
    },
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
        ("measure",),
        ("teacher",),
        ("scratch", "G4", "0"),
        ("distil", "G4", "all", "0"),
    ):
        assert run(*command) == 0
    found = laid_out("G4")
    assert found["blocks"] == {"block": "G(4)", "tail": "G(4)"}
    assert found["taps"] == ["tail"]
    measured = json.loads((here / "results/tiny/timings/measure-teacher@tiny.json").read_text())
    # 32 large pictures take minutes, and nobody has them at once
    assert list(measured["latency_ms"]) == ["1"]
    student = load(here / "results/tiny/students/G4/scratch/seed0", trust=NETS)
    assert sum(parameter.numel() for parameter in student.parameters()) == found["parameters"]
    metrics = json.loads((here / "results/tiny/students/G4/scratch/seed0/metrics.json").read_text())
    assert "miou_pct" in metrics["test"]
    (*_, row) = read_csv(here / "results/tiny/students/G4/all/seed0/history.csv")
    assert all(float(row[name]) > 0 for name in ("ce", *STUDY["methods"]["all"]))


def timed(
    path: Path, shape: Sequence[int], threads: int, batches: Sequence[int], trust: Sequence[str]
) -> Timing:
    """As if the file had been measured, which takes a process and seconds; the tutorial's test measures."""
    latencies = tuple(Latency(batch, 1.0, 1.5, 20, 2_000_000) for batch in batches)
    return Timing(path.suffix[1:], path.name, threads, 1_000_000, latencies)


def test_it_is_shipped_as_files_that_label_every_pixel(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(shipping, "measure_file", timed)
    ship = {
        "budget": "12kB onnx",
        "allowed_error_pct": None,
        "calibration_images": 4,
        "logit_tolerance": 0.001,
    }
    content = {
        **STUDY,
        "data": {**STUDY["data"], "validation": 0.25},
        "students": {"G4": {"block": "G(4)"}},
        "methods": {"at": STUDY["methods"]["at"]},
        "ship": ship,
    }
    tiny.write_study(here, content)
    for command in (
        ("fetch",),
        ("structure", "G4"),
        ("measure",),
        ("measure", "G4"),
        ("teacher",),
        ("scratch", "G4", "0"),
        ("distil", "G4", "at", "0"),
        ("collect",),
        ("export",),
    ):
        assert run(*command) == 0, command
    shipped = here / "results/tiny/export"
    (chosen, *_), record = (
        json.loads((here / path).read_text())[key]
        for path, key in (
            ("results/tiny/choice.json", "ranked"),
            ("results/tiny/export/shipped.json", "chosen"),
        )
    )
    assert (record["student"], record["method"]) == (chosen["student"], chosen["method"])
    assert record["network_pct"] == pytest.approx(chosen["seed_validation_pct"], abs=0.1)
    trained = json.loads(
        (here / f"results/tiny/students/G4/{chosen['method']}/seed0/metrics.json").read_text()
    )
    receipts = json.loads((shipped / "receipts.json").read_text())
    assert receipts["error_pct"] == pytest.approx(trained["test"]["error_pct"], abs=0.1)
    sizes = {receipt["format"]: receipt["bytes"] for receipt in receipts["receipts"]}
    assert sizes["onnx"] == chosen["sizes"]["onnx"] <= 12_000
    assert (shipped / "segment.py").is_file()
    card = (shipped / "README.md").read_text()
    assert "A semantic segmentation network with 4 classes" in card
    assert "* `logits`: (n, 4, 12, 24), in the order 0, 1, 2, 3." in card
    assert "The error is 100 - mIoU" in card
    measured = json.loads((here / "results/tiny/timings/export@tiny.json").read_text())["receipts"]
    assert {len(timing["batches"]) for timing in measured} == {1}
    assert f"* This network: {receipts['error_pct']:.2f} % on 3 test images, in PyTorch." in card


def test_its_blocks_are_searched_for_and_planned(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("structure", "mix") == 0
    found = laid_out("mix")
    assert found["parameters"] <= 2500
    assert "images" not in found["search"]
    monkeypatch.setattr(mixing, "MOST_PIXELS", 3 * 12 * 24)
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
    assert run("structure", "G4") == USAGE_ERROR
    said = f"teacher: model {NETS}:Backwards: one image gives (1, 5); allowed: logits (1, 4, 12, 24)"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"augment": {"crop_padding": 0, "flip": False, "crop": [9, 16]}},
            ["students.G4", "augment.crop", f"{NETS}:Dense", "(1, 4, 10, 16)", "(1, 4, 9, 16)"],
        ),
        (
            {
                "teacher": {**OWN, "model": f"{NETS}:Pooled"},
                "training": {**STUDY["training"], "batch_size": 7},
            },
            ["students.G4", "training.batch_size", "7", "8", "Expected more than 1 value per channel"],
        ),
    ],
)
def test_what_the_network_cannot_train_on_is_said_before_it_trains(
    sections: dict[str, Any], said: list[object], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(here, {**STUDY, **sections})
    assert run("fetch") == 0
    assert run("structure", "G4") == USAGE_ERROR
    assert names(capsys.readouterr().err, *said)


def test_a_study_that_cannot_ship_says_so_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ship = {"budget": "1MB", "allowed_error_pct": None, "calibration_images": 4, "logit_tolerance": 0.001}
    tiny.write_study(here, {**STUDY, "ship": ship})
    assert run("fetch") == 0
    assert (
        "ship: nothing will be exported: there is no validation split to choose on" in capsys.readouterr().err
    )
