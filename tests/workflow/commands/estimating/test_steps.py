"""Steps of a study: each distinct one once, of the networks that the pipeline trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moonshine.structures.structure import SearchRecord, StudyStructure
from moonshine_workflow.commands.estimating.steps import distinct, steps_of
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.structures import blocks_of
from moonshine_workflow.students.layouts import Images, given_structure
from moonshine_workflow.students.mixing import settings_of
from tests.workflow.commands.estimating.studies import SIZE, a_study
from tests.workflow.report.test_searches import SEARCH


def test_every_network_and_loss_is_timed_once() -> None:
    at = [{"at": {"form": form, "beta": 10.0}} for form in ("paper", "released")]
    study = a_study(
        students={"G4": {"block": "G(4)"}, "again": {"block": "G-4"}, "narrow": {"network": "wrn-10-0.5"}},
        methods={"a": at[0], "b": at[1]},
    )
    keys = distinct(steps_of(study, SIZE)[0])
    assert sorted(key.partition(", batches of 16 of 8x8, sgd, precision fp32, ")[0] for key in keys) == [
        "wrn-10-0.5, at",
        "wrn-10-0.5, ce",
        "wrn-10-1 with G(4), at",
        "wrn-10-1 with G(4), ce",
        "wrn-10-1, ce",
    ]


def test_a_mixed_student_is_known_once_it_was_searched_for() -> None:
    study = a_study(students={"mix": {"mixed": {"budget": "60k params"}}})
    assert steps_of(study, SIZE)[1] == ["mix"]
    mixed = study.students["mix"].mixed
    assert mixed
    structure = StudyStructure(
        network="wrn-10-1",
        num_classes=2,
        in_channels=1,
        blocks={"stage1.0": "G(4)", "stage2.0": "S", "stage3.0": "B(2)"},
        block="mixed",
        search=SearchRecord.model_validate_json(json.dumps({**SEARCH, "settings": settings_of(mixed)})),
        taps=(),
        input_shape=(1, 8, 8),
        parameters=1,
        macs=1,
        ops=1,
    )
    structure.write(nodes.structure("tiny", "mix").outputs[0])
    assert steps_of(study, SIZE)[0]["mix", "scratch"][0][1].structure == structure


def test_a_rival_needs_no_data() -> None:
    rival = {"rival": {"scale": "depth", "budget": "100k params"}}
    study = a_study(teacher={"network": "wrn-16-1", "seed": 0}, students={"rival": rival})
    assert steps_of(study, SIZE)[0]["rival", "scratch"][0][1].structure.network == "wrn-10-1"


NETS = """
from torch import nn


def build():
    convolutions = [nn.Conv2d(1, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1)]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
"""


def test_students_of_a_model_are_those_of_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "estimated_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    study = a_study(teacher={"model": "estimated_nets:build", "exclude": ["4"], "seed": 0})
    found, _ = steps_of(study, SIZE)
    for name in study.students:
        expected = given_structure(
            study, study.network_of(name), blocks_of(study, name), Images((1, 8, 8), 2)
        )
        assert found[name, "scratch"][0][1].structure == expected
