"""Objective of distillation: the terms of a method, and the cross-entropy on the labels beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from itertools import accumulate
from operator import or_

import torch
from torch import Tensor, nn

from moonshine.config.methods import Method
from moonshine.distillation.outputs import Needs, Read, TeacherOutputs, reading
from moonshine.distillation.teacher import teacher_outputs
from moonshine.distillation.teacher_store.store import Store
from moonshine.distillation.term import Pair, Term
from moonshine.errors import MoonshineError
from moonshine.training.execution import Execution
from moonshine.training.labels import LabelLoss, check_no_probabilities
from moonshine.training.objective import Batch, Objective, Terms


@dataclass(frozen=True)
class Phase:
    """Epochs, up to ``end``, with the same terms; in the last phase of a training with the labels too."""

    end: int
    terms: Mapping[str, Term]
    has_labels: bool

    @property
    def student(self) -> Needs:
        """What is needed of the student."""
        return reduce(or_, (term.student for term in self.terms.values()), Needs(logits=self.has_labels))

    @property
    def teacher(self) -> Needs:
        """What is needed of the teacher."""
        return reduce(or_, (term.teacher for term in self.terms.values()), Needs())


class Distillation(Objective):
    """The phases of one method, and how the outputs of both networks are read."""

    def __init__(
        self,
        phases: Sequence[Phase],
        student: Read,
        teacher: TeacherOutputs,
        label_loss: LabelLoss | None = None,
    ) -> None:
        super().__init__(label_loss)
        self.terms = nn.ModuleDict({name: term for phase in phases for name, term in phase.terms.items()})
        self._phases, self._student, self._teacher = phases, student, teacher
        self._checked = False

    @property
    def columns(self) -> tuple[str, ...]:
        return ("ce", *self.terms)

    @property
    def has_phases(self) -> bool:
        return len(self._phases) > 1

    def forward(self, network: nn.Module, batch: Batch) -> tuple[Tensor | None, Terms]:
        phase = next(phase for phase in self._phases if batch.epoch < phase.end)
        wanted = self._teacher(batch, phase.teacher)
        found = self._student(network, batch, phase.student)
        values = {}
        if phase.has_labels:
            assert found.logits is not None
            self._check(student=found.logits, teacher=wanted.logits)
            share = math.prod(term.label_share for term in phase.terms.values())
            values["ce"] = share * self.label_loss(found.logits, batch.labels, batch.mixed)
        values |= {name: term(found, wanted, batch) for name, term in phase.terms.items()}
        return found.logits, values

    def _check(self, **logits: Tensor | None) -> None:
        """MoonshineError in the first batch for a network that returns probabilities."""
        for whose, outputs in {} if self._checked else logits.items():
            if outputs is not None:
                check_no_probabilities(outputs, f"the {whose}")
        self._checked = True


@contextmanager
def distillation(
    pair: Pair,
    method: Method,
    epochs: int,
    execution: Execution | None,
    label_loss: LabelLoss | None = None,
    seed: int = 0,
    store: Store | None = None,
) -> Iterator[Distillation]:
    """Objective of ``method`` for a training of so many epochs, while the context lasts.

    Within it the teacher is in eval mode and runs without gradients; afterwards it is as it was. Without an
    ``execution`` both networks stay where they are. ``label_loss`` is the cross-entropy on the labels; ``seed``
    initialises what terms train; ``store`` keeps the teacher's outputs for the schedule of this training, which gives
    the same bits. MoonshineError as each term says, and for a compiled network that a term would differentiate twice.
    """
    phases = phases_of(pair, method, epochs, seed)
    whole = phases[-1]  # those before it end at a layer
    if execution and execution.compile and whole.student.input_gradient:
        raise MoonshineError(
            f"compile: found true; {method.loss} differentiates twice, which no compiled network can; allowed: false"
        )
    with (
        teacher_outputs(pair.teacher, whole.teacher, execution, pair.input_shape, store) as teacher,
        reading(pair.student, whole.student, execution, pair.input_shape) as student,
    ):
        yield Distillation(phases, student, teacher, label_loss)


def phases_of(pair: Pair, method: Method, epochs: int, seed: int = 0) -> list[Phase]:
    """The phases of a method, made for a pair; MoonshineError as each term says."""
    parts = method.phases(epochs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [
            Phase(
                end,
                {
                    name: import_module(f"moonshine.distillation.losses.{name}").Loss(settings, pair)
                    for name, settings in (part.terms if part else {}).items()
                },
                has_labels=end == epochs,
            )
            for end, (_, part) in zip(accumulate(count for count, _ in parts), parts, strict=True)
        ]
