"""The arithmetic of an estimate: from seconds per image to device hours, and to the time that several devices take."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moonshine.config import Study
from moonshine.errors import MoonshineError
from workflow import nodes

TEACHER, SCRATCH = "teacher", "scratch"
Kind = tuple[str, str]
"""A student, and scratch or the key of a method; twice ``teacher`` for the teacher."""


@dataclass(frozen=True)
class Pace:
    """Seconds that one image takes in training and in evaluation; ``training`` is None where nothing is trained."""

    training: float | None
    evaluation: float


@dataclass(frozen=True)
class Load:
    """What one node of a study goes through: images by split, epochs and the size of a batch."""

    train: int
    validation: int
    test: int
    epochs: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Optimiser steps of a node that trains."""
        return self.epochs * math.ceil(self.train / self.batch_size)

    @property
    def images(self) -> int:
        """Images that a node trains on, those of every epoch."""
        return self.epochs * self.train

    def seconds(self, pace: Pace) -> float:
        """How long a node takes: its epochs, validation after each, and the test at the end.

        A teacher that comes with its weights is evaluated once on both splits.
        """
        if pace.training is None:
            return (self.validation + self.test) * pace.evaluation
        epoch = self.train * pace.training + self.validation * pace.evaluation
        return self.epochs * epoch + self.test * pace.evaluation


@dataclass(frozen=True)
class Row:
    """All nodes that differ only in their seed; ``seconds`` are those of each."""

    student: str
    kind: str
    networks: int
    pace: Pace
    seconds: float

    @property
    def device_seconds(self) -> float:
        """Those of all its nodes."""
        return self.networks * self.seconds


@dataclass(frozen=True)
class Task:
    """A node that takes one device for so long, and can begin when those named in ``after`` have ended."""

    name: str
    seconds: float
    after: tuple[str, ...] = ()


def kinds(study: Study) -> list[Kind]:
    """The teacher, then per student scratch and each method."""
    students = [(student, kind) for student in study.students for kind in (SCRATCH, *study.methods)]
    return [(TEACHER, TEACHER), *students]


def rows(study: Study, load: Load, paces: Mapping[Kind, Pace]) -> list[Row]:
    """One row for each kind of node, in the order of ``kinds``."""
    return [
        Row(
            student,
            kind,
            1 if kind == TEACHER else len(study.seeds),
            pace := paces[student, kind],
            load.seconds(pace),
        )
        for student, kind in kinds(study)
    ]


def slowed(paces: Mapping[Kind, Pace], pictures_per_second: float | None) -> dict[Kind, Pace]:
    """The same paces where loading delivers no more than so many images; None for no such limit."""
    least = 1 / pictures_per_second if pictures_per_second else 0.0
    return {
        kind: Pace(pace.training and max(pace.training, least), max(pace.evaluation, least))
        for kind, pace in paces.items()
    }


def tasks(study: Study, estimated: Sequence[Row]) -> list[Task]:
    """Every node of the study that trains; what is distilled waits for the teacher."""
    seconds = {(row.student, row.kind): row.seconds for row in estimated}
    teacher = nodes.teacher(study.study).name

    def task(node: nodes.Node) -> Task:
        match node.stage:
            case "teacher":
                return Task(node.name, seconds[TEACHER, TEACHER])
            case "scratch":
                return Task(node.name, seconds[node.args[0], SCRATCH])
        return Task(node.name, seconds[node.args[0], node.args[1]], (teacher,))

    return [task(node) for node in nodes.trained(study)]


def longest_chain(work: Sequence[Task]) -> list[Task]:
    """The tasks that take longest one after the other: no number of devices is faster.

    A task stands after those it waits for.
    """
    best: dict[str, list[Task]] = {}
    for task in work:
        before = max((best[name] for name in task.after), key=_seconds, default=[])
        best[task.name] = [*before, task]
    return max(best.values(), key=_seconds, default=[])


def _seconds(chain: Sequence[Task]) -> float:
    return sum(task.seconds for task in chain)


def wall_seconds(work: Sequence[Task], devices: int) -> float:
    """When the last task ends if no device waits while a task could begin, one task on each device at a time.

    Of several that could begin, the one goes first from which the longest chain is still to come (list scheduling by
    critical path). That is at most total / devices + (1 - 1 / devices) * longest chain (Graham, 1969), whatever the
    order. A task stands after those it waits for. MoonshineError for fewer than one device.
    """
    if devices < 1:
        raise MoonshineError(f"--devices is {devices}; allowed: a whole number from 1")
    followers: dict[str, list[int]] = {task.name: [] for task in work}
    for position, task in enumerate(work):
        for name in task.after:
            followers[name].append(position)
    to_come = [0.0] * len(work)
    for position in reversed(range(len(work))):
        task = work[position]
        to_come[position] = task.seconds + max((to_come[later] for later in followers[task.name]), default=0)
    waits_for = [len(task.after) for task in work]
    ready = [(-to_come[position], position) for position, count in enumerate(waits_for) if not count]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < devices:
            _, position = heapq.heappop(ready)
            heapq.heappush(running, (now + work[position].seconds, position))
        now, ended = heapq.heappop(running)
        for position in followers[work[ended].name]:
            waits_for[position] -= 1
            if not waits_for[position]:
                heapq.heappush(ready, (-to_come[position], position))
    return now
