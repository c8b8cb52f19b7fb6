"""``moonshine estimate`` as its users see it: measured here or elsewhere, and refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moonshine.config import load_study
from moonshine.datasets.kind import DatasetSize
from tests.messages import names
from tests.workflow import tiny
from tests.workflow.commands.estimating.studies import a_study, prepare, run, save

G4 = tiny.study(students={"G4": {"block": "G(4)"}})


@contextmanager
def alone() -> Iterator[Callable[[], float]]:
    yield lambda: 0.0


@contextmanager
def beside_others() -> Iterator[Callable[[], float]]:
    yield lambda: 0.4


def test_saved_times_give_the_same_estimate_and_a_busy_cpu_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path, G4)
    prepare()
    shown, told = [], []
    for moment in (alone, beside_others):
        monkeypatch.setattr("moonshine_workflow.commands.estimating.throughput.visiting", moment)
        assert run("--save", "here.json") == 0
        said = capsys.readouterr()
        shown.append(said.out)
        told.append((said.err.count("\n4/4: "), said.err.count("40%")))
    assert told == [(1, 0), (1, 4)]
    assert run("--throughput", "here.json") == 0
    assert capsys.readouterr().out == shown[1]


def test_the_text_has_a_line_for_each_student_and_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    prepare()
    save(load_study(), tmp_path / "there.json")
    assert run("--throughput", "there.json", "--devices", "2") == 0
    text = capsys.readouterr().out.splitlines()
    lines = [line.split() for line in text]
    assert ["G4", "at", "2", "min", "1", "2", "min"] in lines
    assert ["in", "all", "7", "9", "min"] in lines
    assert {"1 device: 9 min", "2 devices: 5 min"} <= set(text)


def test_label_maps_are_measured_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"name": "segmentation_folder", "root": "streets", "sha256": "0" * 64, "classes": ["road", "sky"],
            "void": 255, "size": [16, 24], "validation": 0.0, "split_seed": 0}  # fmt: skip
    content = tiny.study(
        data=data,
        teacher={"network": "erfnet-0.25", "seed": 0},
        students={"G4": {"block": "G(4)"}},
        training={**tiny.STUDY["training"], "batch_size": 2, "class_weights": {"log_offset": 1.1}},
        augment={"crop_padding": 2, "flip": True, "crop": [16, 16]},
    )
    tiny.write_study(tmp_path, content)
    prepare(DatasetSize(9, 3, (3, 16, 24), 2))
    assert run("--devices", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split()[:2] for line in lines if line.startswith(("teacher", "G4"))]
    assert rows == [["teacher", "teacher"], ["G4", "scratch"], ["G4", "kd"], ["G4", "at"]]
    assert [line.partition(":")[0] for line in lines if " device" in line][:2] == ["1 device", "2 devices"]


def test_a_file_that_lacks_a_network_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    prepare()
    save(a_study(students={"G4": {"block": "G(4)"}}), tmp_path / "there.json")
    assert run("--throughput", "there.json") == 2
    said = capsys.readouterr().err
    assert names(said, "there.json", "3", "7 measurements", "wrn-10-1", "BG(2,M)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (["--devices", "0"], ["--devices", "0", "1"]),
        (["--throughput", "none.json"], ["none.json", "no such file"]),
        (["--throughput", "torn.json"], ["torn.json", "damaged"]),
        (["--throughput", "odd.json"], ["odd.json", "damaged", "measured_on"]),
    ],
)
def test_a_mistake_is_one_message(
    tmp_path: Path, arguments: list[str], message: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    prepare()
    save(load_study(), odd := tmp_path / "odd.json")
    odd.write_text(odd.read_text().replace('"a device"', "1"))
    Path("torn.json").write_text("{")
    assert run(*arguments) == 2
    said = capsys.readouterr()
    assert names(said.err, *message)
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
