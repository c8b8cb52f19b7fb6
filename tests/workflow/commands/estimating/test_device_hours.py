"""Device hours from times of steps, and the schedule on several devices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonshine_workflow.commands.estimating.device_hours import (
    EstimateRow,
    device_seconds,
    share_kept,
    wall_seconds,
)
from moonshine_workflow.commands.estimating.steps import steps_of
from moonshine_workflow.graph import nodes
from tests.workflow import tiny
from tests.workflow.commands.estimating.studies import SIZE, a_study, invented


def test_every_node_takes_its_epochs_and_its_test() -> None:
    study = a_study(seeds=[0, 1, 2])
    found = device_seconds(study, SIZE, steps_of(study, SIZE)[0], invented(study).steps)
    # 2 x (40 x training + 10 x 0.75 / 3) + 20 x 0.75 / 3
    # but three of a seed's four distilled nodes need no pass of the teacher, of 0.75 / 3
    each = {"teacher": 70.0, "scratch": 70.0, "kd": 75.0, "at": 95.0}
    assert [(row.student, row.trained_by, row.networks, row.seconds_each) for row in found] == [
        ("teacher", "teacher", 1, 70.0),
        *((student, kind, 3, each[kind]) for student in ("G4", "BG2-M") for kind in ("scratch", "kd", "at")),
    ]
    assert sum(row.networks for row in found) == len(nodes.trained(study))


def test_epochs_of_pretraining_take_their_own_time() -> None:
    hints = {"hints": {"hint": "stage2", "guided": "stage2", "epochs": 1, "weight": 1.0}}
    kd = {"kd": {"form": "textbook", "temperature": 4.0, "alpha": 0.9}}
    study = a_study(students={"G4": {"block": "G(4)"}}, methods={"fit": hints | kd, "alone": hints})
    found = device_seconds(study, SIZE, steps_of(study, SIZE)[0], invented(study).steps)
    validated_and_tested = 2 * 10 * 0.25 + 20 * 0.25
    assert {row.trained_by: row.seconds_each for row in found[2:]} == {
        "fit": 40 * (0.5 + 1.0) + validated_and_tested,
        "alone": 40 * (0.5 + 0.75) + validated_and_tested,
    }


def test_a_teacher_that_comes_with_its_weights_is_only_evaluated() -> None:
    weights = {"weights": "teacher.safetensors", "weights_sha256": "0" * 64}
    study = a_study(teacher={"network": "wrn-10-1", "seed": 0, **weights})
    row = device_seconds(study, SIZE, steps_of(study, SIZE)[0], invented(study).steps)[0]
    assert row.seconds_each == (10 + 20) * 0.25


def rows(teacher: float, scratch: list[float], distilled: list[float]) -> list[EstimateRow]:
    students = [("scratch", seconds) for seconds in scratch] + [("kd", seconds) for seconds in distilled]
    return [
        EstimateRow("teacher", "teacher", 1, teacher),
        *(EstimateRow("student", kind, 1, seconds) for kind, seconds in students),
    ]


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (rows(3, [5], [4, 1]), [13, 7, 7, 7]),
        (rows(10, [1], [2, 2]), [15, 12, 12, 12]),
        (rows(3, [], []), [3, 3, 3, 3]),
    ],
)
def test_distillation_waits_for_the_teacher(work: list[EstimateRow], expected: list[float]) -> None:
    assert [wall_seconds(work, devices) for devices in (1, 2, 3, 8)] == expected


SECONDS = st.lists(st.integers(1, 50), max_size=8)


@given(teacher=st.integers(0, 50), scratch=SECONDS, distilled=SECONDS, devices=st.integers(1, 6))
def test_the_time_lies_between_the_bounds_of_every_schedule(
    teacher: int, scratch: list[float], distilled: list[float], devices: int
) -> None:
    total = teacher + sum(scratch) + sum(distilled)
    chain = max(teacher + max(distilled, default=0), *scratch, 0)
    wall = wall_seconds(rows(teacher, scratch, distilled), devices)
    assert max(total / devices, chain) <= wall <= total
    # Graham's bound for schedules that leave no device idle, in whole numbers
    assert devices * wall <= total + (devices - 1) * chain


@pytest.mark.parametrize(("store", "share"), [("1GB", 1.0), ("13440B", 0.5), ("1343B", 0.0), (0, 0.0)])
def test_what_does_not_fit_into_the_store_is_computed(store: str | int, share: float) -> None:
    runtime = {**tiny.STUDY["runtime"], "teacher_store": store}
    study = a_study(seeds=[0, 1], methods={"at": tiny.STUDY["methods"]["at"]}, runtime=runtime)
    step = steps_of(study, SIZE)[0]["G4", "at"][0][1]
    assert step.teacher
    # two bytes for each of the 8x8, 4x4 and 2x2 maps of 40 images in 2 epochs of 2 seeds
    assert share_kept(study, SIZE, step.teacher) == share
