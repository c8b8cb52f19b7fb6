"""Terms of a distillation loss: what each of them is made from, needs and returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from moonshine.distillation.outputs import Needs, Outputs
from moonshine.training.objective import Batch


@dataclass(frozen=True)
class Pair:
    """A student and its teacher; ``taps`` are paths in both, ``input_shape`` is (channels, height, width)."""

    student: nn.Module
    teacher: nn.Module
    taps: tuple[str, ...]
    input_shape: tuple[int, ...]


class Term(nn.Module):
    """One term of a loss. That of the key ``at`` in the schema is the class ``Loss`` of ``losses/at.py``.

    It is made from its settings and a `Pair`, which it checks and does not keep. ``student`` and ``teacher`` say what
    it needs of a forward pass of each; ``label_share`` is what it leaves of the cross-entropy. Its own parameters are
    trained with the student and end with the training.
    """

    student = Needs()
    teacher = Needs()
    label_share = 1.0

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Scalar, in fp32 at least, whose gradient does not reach the teacher."""
        raise NotImplementedError


class LogitTerm(Term):
    """Term that needs nothing but the logits of both networks; `of_logits` computes it."""

    student = teacher = Needs(logits=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        assert student.logits is not None
        assert teacher.logits is not None
        return self.of_logits(student.logits, teacher.logits, batch)

    def of_logits(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Return what `forward` does, from logits (N, K) or (N, K, H, W)."""
        raise NotImplementedError
