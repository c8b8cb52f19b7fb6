"""The networks and losses of a study that are timed: each once, and each that of the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from moonshine import MoonshineError
from moonshine.files import write_json
from tests.workflow.estimating.studies import TINY, a_study
from workflow import nodes
from workflow.estimating.data import facts_of
from workflow.estimating.works import EVALUATION, cases
from workflow.layouts import Images, uniform


def test_a_teacher_with_weights_has_no_training_to_time() -> None:
    weights = {"weights": "teacher.safetensors", "weights_sha256": "0" * 64}
    study = a_study(teacher={"network": "wrn-10-1", "seed": 0, **weights})
    found = cases(study, facts_of(study, TINY))
    assert [case.work.loss for case in found["teacher", "teacher"]] == [EVALUATION]
    assert [case.work.loss for case in found["G4", "at"]] == [EVALUATION, "at"]


def test_every_network_and_loss_is_timed_once() -> None:
    methods = {
        name: {"at": {"form": form, "beta": 10.0}} for name, form in (("a", "paper"), ("b", "released"))
    }
    study = a_study(
        students={"G4": {"block": "G(4)"}, "again": {"block": "G-4"}, "narrow": {"network": "wrn-10-0.5"}},
        methods=methods,
    )
    works = {case.work for both in cases(study, facts_of(study, TINY)).values() for case in both}
    assert sorted((work.network, work.loss) for work in works) == [
        ("wrn-10-0.5", "at"),
        ("wrn-10-0.5", "ce"),
        ("wrn-10-0.5", "evaluation"),
        ("wrn-10-1", "ce"),
        ("wrn-10-1", "evaluation"),
        ("wrn-10-1 with G(4)", "at"),
        ("wrn-10-1 with G(4)", "ce"),
        ("wrn-10-1 with G(4)", "evaluation"),
    ]


def test_a_mixed_student_is_known_once_it_was_searched_for() -> None:
    study = a_study(students={"mix": {"mixed": {"budget": "60k params"}}})
    facts = facts_of(study, TINY)
    with pytest.raises(MoonshineError, match=r"students\.mix\.mixed: .*snakemake results/tiny/students/mix/"):
        cases(study, facts)
    mixed = study.students["mix"].mixed
    assert mixed
    structure = {
        "network": "wrn-10-1",
        "num_classes": 2,
        "in_channels": 1,
        "blocks": {"stage1.0": "G(4)", "stage2.0": "S", "stage3.0": "B(2)"},
        "block": "mixed",
        "search": {"settings": mixed.model_dump(mode="json")},
    }
    write_json(nodes.structure("tiny", "mix").outputs[0], structure)
    training = cases(study, facts)["mix", "scratch"].training
    assert training
    assert training.work.network == "wrn-10-1 with mixed"


def test_a_rival_needs_no_data() -> None:
    rival = {"rival": {"scale": "depth", "budget": "100k params"}}
    study = a_study(teacher={"network": "wrn-16-1", "seed": 0}, students={"rival": rival})
    found = cases(study, facts_of(study, TINY))["rival", "scratch"].evaluation.work.network
    assert found == "wrn-10-1"


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
    teacher = {"model": "estimated_nets:build", "exclude": ["4"], "seed": 0}
    study = a_study(teacher=teacher)
    found = cases(study, facts_of(study, TINY))
    images = Images((1, 8, 8), 2, {})
    for name in study.students:
        expected = uniform(study, study.network_of(name), study.block_of(name), images)
        assert found[name, "scratch"].evaluation.structure == expected
