"""``moonshine estimate`` as its users see it: measured here or elsewhere, and refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moonshine.config import load_study
from moonshine_workflow.commands.estimating.dataset_size import DatasetSize
from tests.workflow import tiny
from tests.workflow.commands.estimating.studies import a_study, prepare, run, save


@contextmanager
def alone() -> Iterator[Callable[[], float]]:
    yield lambda: 0.0


@contextmanager
def beside_others() -> Iterator[Callable[[], float]]:
    yield lambda: 0.4


def test_steps_are_measured_once_unless_others_had_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    prepare()
    shown, told = [], []
    for moment in (beside_others, alone, alone):
        monkeypatch.setattr("moonshine_workflow.commands.estimating.throughput.visiting", moment)
        assert run("--student", "G4", "--save", "here.json") == 0
        said = capsys.readouterr()
        shown.append(said.out)
        told.append((said.err.count("\n6/6: "), said.err.count("not cached"), said.err.count("40%")))
    assert told == [(1, 6, 6), (1, 0, 0), (0, 0, 0)]
    assert run("--student", "G4", "--throughput", "here.json") == 0
    assert capsys.readouterr().out == shown[1] == shown[2]


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
    prepare(DatasetSize(9, 0, 3, (3, 16, 24), 2))
    assert run("--devices", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["trained_by"] for row in found["rows"]] == ["teacher", "scratch", "kd", "at"]
    assert all(row["seconds_each"] > 0 for row in found["rows"])
    assert found["wall_seconds"].keys() == {"1", "2"}


def test_a_file_that_lacks_a_network_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    prepare()
    save(a_study(students={"G4": {"block": "G(4)"}}), tmp_path / "there.json")
    assert run("--throughput", "there.json") == 2
    said = capsys.readouterr().err
    assert "there.json: lacks 4 of 10 measurements, such as wrn-10-1 with BG(2,M), evaluation" in said
    assert run("--throughput", "there.json", "--student", "G4") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "study 'nowhere': no such file; allowed: a file, or one of studies/: small"),
        (["nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--devices", "0"], "--devices is 0; allowed: a whole number from 1"),
        (["--student", "G5"], "--student is G5; allowed: the students of tiny: G4, BG2-M"),
        (["--throughput", "none.json"], "none.json: no such file"),
        (["--throughput", "torn.json"], "torn.json: damaged"),
        (["--throughput", "odd.json"], "odd.json: threads: "),
        (["--throughput", "odd.json"], "found 'many'"),
    ],
)
def test_a_mistake_is_one_message(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    prepare()
    Path("studies").mkdir()
    Path("studies/small.yaml").touch()
    save(load_study(), odd := tmp_path / "odd.json")
    odd.write_text(odd.read_text().replace('"threads": 1', '"threads": "many"'))
    Path("torn.json").write_text("{")
    assert run(*arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
