"""The arithmetic of an estimate: what a node takes, the nodes of a study, and their schedule on several devices."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workflow.estimating.studies import a_study
from workflow import nodes
from workflow.estimating.arithmetic import (
    Load,
    Pace,
    Task,
    kinds,
    longest_chain,
    rows,
    slowed,
    tasks,
    wall_seconds,
)


def test_a_node_takes_its_epochs_and_its_test() -> None:
    load = Load(train=40, validation=10, test=20, epochs=3, batch_size=16)
    assert (load.steps, load.images) == (9, 120)
    # 3 x (40 x 0.5 + 10 x 0.25) + 20 x 0.25
    assert load.seconds(Pace(0.5, 0.25)) == 72.5


def test_a_teacher_with_weights_is_only_evaluated() -> None:
    assert Load(40, 10, 20, 3, 16).seconds(Pace(None, 0.25)) == 7.5


def test_rows_are_all_nodes_of_the_study() -> None:
    study = a_study(seeds=[0, 1, 2])
    load = Load(40, 10, 20, 2, 16)
    found = rows(study, load, {kind: Pace(0.5, 0.25) for kind in kinds(study)})
    assert [(row.student, row.kind, row.networks) for row in found] == [
        ("teacher", "teacher", 1),
        *((student, kind, 3) for student in ("G4", "BG2-M") for kind in ("scratch", "kd", "at")),
    ]
    assert len(tasks(study, found)) == sum(row.networks for row in found) == len(nodes.trained(study))


def test_what_is_distilled_waits_for_the_teacher() -> None:
    study = a_study()
    found = tasks(study, rows(study, Load(40, 10, 20, 2, 16), dict.fromkeys(kinds(study), Pace(0.5, 0.25))))
    assert {task.name: task.after for task in found if task.after} == {
        f"distil@tiny-{student}-{method}-0": ("teacher@tiny",)
        for student in ("G4", "BG2-M")
        for method in ("kd", "at")
    }


def test_slow_loading_holds_up_what_is_faster() -> None:
    paces = {("teacher", "teacher"): Pace(None, 0.25), ("G4", "scratch"): Pace(1.0, 0.25)}
    assert slowed(paces, 2.0) == {
        ("teacher", "teacher"): Pace(None, 0.5),
        ("G4", "scratch"): Pace(1.0, 0.5),
    }
    assert slowed(paces, None) == paces


# the schedule


def test_the_longest_chain_begins_first() -> None:
    teacher = Task("teacher", 3)
    distilled = [Task("long", 4, ("teacher",)), Task("short", 1, ("teacher",))]
    work = [teacher, Task("scratch", 5), *distilled]
    assert [task.name for task in longest_chain(work)] == ["teacher", "long"]
    # one device after the other; two: teacher then long beside scratch then short, which ends at 6; the chain is 7
    assert [wall_seconds(work, devices) for devices in (1, 2, 3, 8)] == [13, 7, 7, 7]


def test_a_device_waits_where_everything_waits_for_the_teacher() -> None:
    work = [Task("teacher", 10), Task("a", 2, ("teacher",)), Task("b", 2, ("teacher",)), Task("scratch", 1)]
    assert [wall_seconds(work, devices) for devices in (1, 2, 3)] == [15, 12, 12]


def test_no_work_takes_no_time() -> None:
    assert wall_seconds([], 2) == 0
    assert longest_chain([]) == []


@st.composite
def graphs(draw: st.DrawFn) -> list[Task]:
    """Any tasks, each after some of those before it; whole seconds, so that sums are exact."""
    durations = draw(st.lists(st.integers(0, 50), min_size=1, max_size=12))
    found: list[Task] = []
    for position, seconds in enumerate(durations):
        names = [task.name for task in found]
        after = draw(st.sets(st.sampled_from(names), max_size=3)) if names else set()
        found.append(Task(str(position), seconds, tuple(sorted(after))))
    return found


@settings(max_examples=100, deadline=None)
@given(work=graphs(), devices=st.integers(1, 6))
def test_the_time_lies_between_the_bounds_of_every_schedule(work: list[Task], devices: int) -> None:
    total = sum(task.seconds for task in work)
    chain = sum(task.seconds for task in longest_chain(work))
    wall = wall_seconds(work, devices)
    assert max(total / devices, chain) <= wall <= total
    # Graham's bound, in whole numbers
    assert devices * wall <= total + (devices - 1) * chain
    assert wall_seconds(work, 1) == total
    assert wall_seconds(work, len(work)) == chain
