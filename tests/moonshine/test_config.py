"""The schema of params.yaml: each mistake is answered with the key, the value and what is allowed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from moonshine import MoonshineError
from moonshine.config import load_study, parse_study

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))
DIGITS = yaml.safe_load((Path(__file__).parents[2] / "studies" / "digits.yaml").read_text())
MISSING = object()


def changed(path: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(DIGITS)
    here = content
    *parents, last = path.split("/")
    for key in parents:
        here = here[key]
    if value is MISSING:
        del here[last]
    else:
        here[last] = value
    return content


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_is_valid_and_named_as_its_file(path: Path) -> None:
    assert load_study(path).study == path.stem


def test_params_yaml_is_a_shipped_study() -> None:
    params = Path(__file__).parents[2] / "params.yaml"
    assert params.read_bytes() in [path.read_bytes() for path in STUDIES]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("trainin", 1, ["trainin: unknown key", "did you mean 'training'"]),
        ("training/epoch", 3, ["training.epoch: unknown key", "epochs, batch_size"]),
        ("students/G4/blok", "G(4)", ["students.G4.blok: unknown key", "network, block"]),
        ("data/sized", 3, ["data.sized: unknown key", "size, validation"]),
        ("training/epochs", -1, ["training.epochs: found -1", "greater than or equal to 1"]),
        ("training/epochs", "12", ["training.epochs: found '12'", "integer"]),
        ("training/optimizer/lr", "1e-3", ["training.optimizer.lr: found '1e-3'", "write 0.001"]),
        ("training/optimizer", MISSING, ["training.optimizer: missing"]),
        ("training/schedule/kind", "cosine", ["training.schedule: found 'cosine'", "'step', 'one-cycle'"]),
        ("training/schedule", {"kind": "step", "drops": [60, 3], "factor": 0.2}, ["ascending", "[60, 3]"]),
        ("training/schedule", {"kind": "step", "drops": [60], "factor": 0.2}, ["drops [60]", "epochs is"]),
        ("students", {}, ["students: found {}"]),
        ("students/G.4", {"block": "G(4)"}, ["'G.4'", "DVC splits on dots"]),
        ("students/G4", {}, ["students.G4", "'block'", "'network'"]),
        ("students/scratch", {"block": "G(4)"}, ["students.scratch", "reserved"]),
        ("methods/at/at/form", "strong", ["methods.at.at.form: found 'strong'", "'resolution-free'"]),
        ("methods/none", {}, ["methods.none", "'kd', 'at'"]),
        ("data/name", "mnist", ["data: found 'mnist'", "'cifar10'"]),
        ("data/size", 4, ["data.size: found 4", "8"]),
        ("seeds", [0, 0], ["seeds", "twice"]),
        ("seeds", [0, "a"], ["seeds.1: found 'a'"]),
        ("study", "a.b", ["study: found 'a.b'"]),
        ("runtime/device", "tpu", ["runtime.device: found 'tpu'", "auto"]),
        ("augment/flip", "no", ["augment.flip: found 'no'"]),
    ],
)
def test_a_mistake_names_the_key_the_value_and_what_is_allowed(
    path: str, value: Any, said: list[str]
) -> None:
    with pytest.raises(MoonshineError) as error:
        parse_study(changed(path, value))
    for words in said:
        assert words in str(error.value)


def test_all_mistakes_are_said_at_once() -> None:
    content = changed("training/epochs", -1)
    content["seeds"] = []
    with pytest.raises(MoonshineError) as error:
        parse_study(content)
    assert "training.epochs" in str(error.value)
    assert "seeds" in str(error.value)


def test_a_key_that_stands_twice_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("study: a\nstudy: b\n")
    with pytest.raises(MoonshineError, match=r"line 2: the key 'study' stands twice"):
        load_study(path)


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(MoonshineError, match="no such file"):
        load_study(path)
    path.write_text("study: [a")
    with pytest.raises(MoonshineError, match=r"params\.yaml: not readable as YAML"):
        load_study(path)
    path.write_text("just words")
    with pytest.raises(MoonshineError, match="expected a mapping"):
        load_study(path)


def test_a_student_takes_the_teachers_network_and_the_ordinary_block_where_it_names_none() -> None:
    study = parse_study(changed("students/small", {"network": "wrn-10-1"}))
    assert (study.network_of("G4"), study.block_of("G4")) == (study.teacher.network, "G(4)")
    assert (study.network_of("small"), study.block_of("small")) == ("wrn-10-1", "S")
