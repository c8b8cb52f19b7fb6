"""Blocks that a study gives: by pattern, or as a file of an earlier search has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from moonshine.config.study import Study, load_study, parse_study
from moonshine.errors import MoonshineError
from moonshine.structures.build import build, to_structure
from moonshine_workflow.graph.check import check_study
from moonshine_workflow.graph.structures import blocks_of
from tests.messages import naming
from tests.workflow import tiny
from tests.workflow.clones import PROJECT

BLOCKS = {"stage1.0": "G(4)", "stage2.0": "S", "stage3.0": "B(2)"}
WARM = {"warm_start": {"fit": "least-squares", "batches": 1}}


def study_with(student: dict[str, Any]) -> Study:
    arrays = {**tiny.STUDY["data"], "sha256": "0" * 64}
    return parse_study(tiny.study(data=arrays, students={"mine": student}))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("mixtures/a.json")
    to_structure("wrn-10-1", BLOCKS, 2, 1).write(path)
    return path


def test_the_ordinary_block_is_that_of_a_student_with_none() -> None:
    assert blocks_of(study_with({"network": "wrn-10-0.5"}), "mine") == "S"
    assert blocks_of(study_with({"block": "G(4)"}), "mine") == "G(4)"
    with pytest.raises(MoonshineError, match=naming("students.mine", "''", "not a valid block")):
        check_study(study_with({"block": ""}))
    assert blocks_of(study_with({"blocks": BLOCKS}), "mine") == BLOCKS


def test_a_file_is_read_where_params_yaml_is(file: Path) -> None:
    study = study_with({"structure": str(file)})
    check_study(study)
    assert blocks_of(study, "mine") == BLOCKS


def test_blocks_by_place_may_be_in_another_network() -> None:
    check_study(study_with({"network": "wrn-16-1", "blocks": {"stage?.1": "G(4)", "*": "S"}}))


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ({"stage4.*": "G(4)", "*": "S"}, ["'stage4.*'", "wrn-10-1", "stage1.0, stage2.0, stage3.0"]),
        ({"*": "S", "stage1.*": "G(4)"}, ["'stage1.*'", "stage1.0", "'*'", "first"]),
        ({"stage1.*": "G(4)"}, ["stage2.0, stage3.0", "wrn-10-1", "'*'"]),
        ({"stage1.*": "Q(4)", "*": "S"}, ["Q(4)", "unknown", "G(g)"]),
        ({"stage1.*": "G(5)", "*": "S"}, ["G(5)", "stage1.0", "16", "4"]),
        ({"*": "S"}, ["teacher itself"]),
    ],
)
def test_patterns_that_do_not_say_one_block_for_every_place(
    blocks: dict[str, str], said: list[object]
) -> None:
    with pytest.raises(MoonshineError, match=naming("students.mine.blocks", *said)):
        check_study(study_with({"blocks": blocks}))


def test_least_squares_are_refused_where_a_block_of_a_place_ends_in_no_1x1() -> None:
    blocks = {"stage1.0": "LRE(2)", "*": "G(4)"}
    with pytest.raises(MoonshineError, match=naming("students.mine.warm_start.fit", "LRE(2)", "steps")):
        check_study(study_with({"blocks": blocks, **WARM}))
    check_study(study_with({"blocks": {"stage1.0": "S", "*": "G(4)"}, **WARM}))


@pytest.mark.parametrize(
    ("student", "parameters"),
    [
        ("bs800k", 811_370),
        ("bs500k", 555_962),
        ("bs400k", 404_250),
        ("bs250k", 289_226),
        ("bs200k", 217_050),
        ("bs150k", 162_202),
    ],
)
def test_blockswaps_mixtures_have_the_sizes_that_were_published_in_thousands(
    student: str, parameters: int
) -> None:
    blocks = blocks_of(load_study(PROJECT / "studies" / "blockswap.yaml"), student)
    with torch.device("meta"):
        network = build("wrn-40-2", blocks)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def damage(path: Path, case: str) -> None:
    content = json.loads(path.read_text())
    if case == "missing":
        return path.unlink()
    if case == "cut short":
        path.write_bytes(path.read_bytes()[:-20])
        return None
    changes: dict[str, Any] = {
        "another network": to_structure("wrn-16-1", "G(4)").content(),
        "a place less": {**content, "blocks": {"stage1.0": "S", "stage2.0": "S"}},
        "an unknown block": {**content, "blocks": {**BLOCKS, "stage2.0": "Q(4)"}},
        "no text": {**content, "blocks": {**BLOCKS, "stage2.0": 4}},
        "another kind of file": {"test": {}},
    }
    path.write_text(json.dumps(changes[case]))
    return None


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("missing", ["no such file"]),
        ("cut short", ["damaged", "JSON"]),
        ("another network", ["'stage1.1'", "wrn-10-1", "stage1.0, stage2.0, stage3.0"]),
        ("a place less", ["stage3.0", "wrn-10-1"]),
        ("an unknown block", ["blocks.stage2.0", "Q(4)", "G(g)"]),
        ("no text", ["blocks.stage2.0", "4", "string"]),
        ("another kind of file", ["network", "missing"]),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_what_is_wrong(
    case: str, said: list[object], file: Path
) -> None:
    damage(file, case)
    with pytest.raises(
        MoonshineError, match=naming("students.mine.structure", "mixtures/a.json", *said)
    ) as caught:
        check_study(study_with({"structure": str(file)}))
    assert str(caught.value).count("mixtures/a.json") == 1


def test_a_study_does_not_read_what_it_writes(file: Path) -> None:
    own = Path("results/tiny/students/mix/structure.json")
    to_structure("wrn-10-1", BLOCKS).write(own)
    with pytest.raises(MoonshineError, match=naming("students.mine.structure", own, "copy")):
        check_study(study_with({"structure": str(own)}))
    own.rename(file)
    check_study(study_with({"structure": str(file)}))
