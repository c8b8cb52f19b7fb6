"""The sections ``methods``, ``training`` and ``runtime`` of a study: losses, recipe and how it is computed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from moonshine.config.types import NonNegative, Positive, Section, Share, Whole


class KD(Section):
    """Knowledge distillation; see ``moonshine.distillation.losses.knowledge_distillation``."""

    form: Literal["textbook", "released"]
    temperature: Positive
    alpha: Annotated[float, Field(ge=0, le=1)]


class AT(Section):
    """Attention transfer; see ``moonshine.distillation.losses.attention_transfer``."""

    form: Literal["released", "paper", "resolution-free"]
    beta: NonNegative


class Method(Section):
    """A distillation loss: any of its terms, with their strengths."""

    kd: KD | None = None
    at: AT | None = None

    @model_validator(mode="after")
    def _has_a_term(self) -> Method:
        if self.kd is None and self.at is None:
            raise ValueError(
                "needs at least one of the terms 'kd', 'at' (scratch, without a teacher, always runs)"
            )
        return self


class Optimizer(Section):
    """Stochastic gradient descent; ``weight_decay`` acts on every parameter, as in the paper."""

    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegative
    nesterov: bool

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Optimizer:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs momentum > 0")
        return self


class Step(Section):
    """The learning rate is multiplied by ``factor`` at the start of each 0-based epoch in ``drops``."""

    kind: Literal["step"]
    drops: list[Whole]
    factor: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _ascending(self) -> Step:
        if self.drops != sorted(set(self.drops)):
            raise ValueError(f"drops must be ascending and distinct, found {self.drops}")
        return self


class OneCycle(Section):
    """Linear from ``start`` to 1 over the share ``warmup`` of steps, then cosine to ``end`` (times lr)."""

    kind: Literal["one-cycle"]
    warmup: Share
    start: Annotated[float, Field(ge=0, le=1)]
    end: Annotated[float, Field(ge=0, le=1)]


class Training(Section):
    """The recipe, shared by the teacher and every student."""

    epochs: Whole
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Optimizer
    schedule: Annotated[Step | OneCycle, Field(discriminator="kind")]
    precision: Literal["auto", "fp32", "bf16"]

    @model_validator(mode="after")
    def _drops_happen(self) -> Training:
        if isinstance(self.schedule, Step) and self.schedule.drops and self.schedule.drops[-1] >= self.epochs:
            raise ValueError(
                f"schedule.drops {self.schedule.drops} must lie before the end: epochs is {self.epochs}"
            )
        return self


class Runtime(Section):
    """How a node is computed, not what: changing this reruns nothing."""

    threads: Whole
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    channels_last: Literal["auto"] | bool
    compile: bool
