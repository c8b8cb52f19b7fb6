"""Objective of distillation: cross-entropy on the labels and the terms of a method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from importlib import import_module
from operator import or_

import torch
from torch import Tensor, nn

from moonshine.config.methods import Method
from moonshine.distillation.outputs import Needs, Read, reading
from moonshine.distillation.teacher import TeacherOutputs, teacher_outputs
from moonshine.distillation.term import Pair, Term
from moonshine.training.execution import Execution
from moonshine.training.labels import check_no_probabilities
from moonshine.training.objective import Batch, Objective, Terms


class Distillation(Objective):
    """Terms of one method by name, and how the outputs of both networks are read."""

    def __init__(
        self,
        terms: Mapping[str, Term],
        student: Read,
        teacher: TeacherOutputs,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__(class_weights)
        self.terms = nn.ModuleDict(terms)
        self._student, self._teacher = student, teacher
        self._checked = False

    @property
    def columns(self) -> tuple[str, ...]:
        return ("ce", *self.terms)

    def forward(self, network: nn.Module, batch: Batch) -> tuple[Tensor | None, Terms]:
        terms: Mapping[str, Term] = dict(self.terms.items())  # type: ignore[arg-type]
        wanted = self._teacher(batch, needs(terms, "teacher"))
        found = self._student(network, batch.images, needs(terms, "student"))
        logits = found.logits
        assert logits is not None
        if not self._checked:
            self._checked = True
            check_no_probabilities(logits, "the student")
            if wanted.logits is not None:
                check_no_probabilities(wanted.logits, "the teacher")
        share = math.prod(term.label_share for term in terms.values())
        values = {"ce": share * self.cross_entropy(logits, batch.labels)}
        return logits, values | {name: term(found, wanted, batch.labels) for name, term in terms.items()}


def needs(terms: Mapping[str, Term], whose: str) -> Needs:
    """What all terms together need of the ``student`` or the ``teacher``: always the logits, beside the labels."""
    return reduce(or_, (getattr(term, whose) for term in terms.values()), Needs(logits=True))


@contextmanager
def distillation(
    pair: Pair, method: Method, execution: Execution, class_weights: Tensor | None = None, seed: int = 0
) -> Iterator[Distillation]:
    """Objective of ``method`` for a student and its teacher, while the context lasts.

    Within it the teacher is in eval mode and runs without gradients; afterwards it is as it was. ``class_weights`` (K,)
    weigh the cross-entropy; ``seed`` initialises what terms train. MoonshineError as each term says.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        terms = {
            name: import_module(f"moonshine.distillation.{name}").Loss(settings, pair)
            for name, settings in method.terms.items()
        }
    with (
        teacher_outputs(pair.teacher, needs(terms, "teacher"), execution, pair.input_shape) as teacher,
        reading(pair.student, needs(terms, "student"), execution, pair.input_shape) as student,
    ):
        yield Distillation(terms, student, teacher, class_weights)
