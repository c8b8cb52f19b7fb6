"""Sections ``training`` and ``runtime`` of a study: recipe and execution."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    PlainSerializer,
    StringConstraints,
    Tag,
    model_validator,
)

from moonshine.costs.budgets import parse_bytes
from moonshine.errors import MoonshineError
from moonshine.fields import NonNegative, Positive, ProcessCount, Section, Share, Text, Whole


class Optimizer(Section):
    """Stochastic gradient descent; ``weight_decay`` acts on every parameter (factors of generated weights: scaled)."""

    kind: Literal["sgd"] = "sgd"
    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegative
    nesterov: bool

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Optimizer:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs momentum > 0")
        return self


class AdamSettings(Section):
    """Adam (Kingma & Ba, 2015); ``weight_decay`` is an L2 penalty added to the gradients, as in torch's Adam.

    Or AdamW (Loshchilov & Hutter, 2019): every weight shrinks by the share lr * weight_decay in each step instead.
    """

    kind: Literal["adam", "adamw"]
    lr: Positive
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)]
    eps: Positive
    weight_decay: NonNegative


def kind(section: Any) -> Any:
    """Return the kind of an optimiser section, SGD by default."""
    return section.get("kind", "sgd") if isinstance(section, dict) else getattr(section, "kind", None)


class ClassWeights(Section):
    """Class weights in the cross-entropy of semantic segmentation: ``1 / ln(log_offset + share of the pixels)``.

    Source: Paszke et al., "ENet", 2016, with 1.02; ERFNet uses 1.10.
    """

    log_offset: Annotated[float, Field(gt=1, le=1e6)]


class Step(Section):
    """Step schedule: multiply the learning rate by ``factor`` at the start of each 0-based epoch in ``drops``."""

    kind: Literal["step"]
    drops: list[Whole]
    factor: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _ascending(self) -> Step:
        if self.drops != sorted(set(self.drops)):
            raise ValueError(f"drops must be ascending and distinct, found {self.drops}")
        return self


class OneCycle(Section):
    """One-cycle schedule: linear from ``start`` to 1 in a share ``warmup`` of steps, then cosine to ``end`` (x lr)."""

    kind: Literal["one-cycle"]
    warmup: Share
    start: Annotated[float, Field(ge=0, le=1)]
    end: Annotated[float, Field(ge=0, le=1)]


class Poly(Section):
    """Polynomial schedule: lr * (1 - e/E)^power in the 0-based epoch e of E, as ERFNet's authors step it."""

    kind: Literal["poly"]
    power: Positive


class Training(Section):
    """Training recipe, of the teacher and all students unless one has its own.

    ``devices`` processes train one network together, each on its shard of every batch; ``sync_batch_norm`` computes
    batch statistics over all shards (GPUs only). ``clip_norm`` bounds the norm of all gradients of a step together,
    those of the objective's parameters too. ``label_smoothing`` spreads a share of every label over all classes.
    ``ema`` is the decay of a moving average of the weights, which is then what is evaluated and exported.
    """

    epochs: Whole
    batch_size: Annotated[int, Field(ge=2, le=10**6)]
    optimizer: Annotated[
        Annotated[Optimizer, Tag("sgd")]
        | Annotated[AdamSettings, Tag("adam")]
        | Annotated[AdamSettings, Tag("adamw")],
        Discriminator(kind),
    ]
    schedule: Annotated[Step | OneCycle | Poly, Field(discriminator="kind")]
    precision: Literal["auto", "fp32", "bf16"]
    clip_norm: Positive | None = None
    class_weights: ClassWeights | None = None
    label_smoothing: Share = 0.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    devices: ProcessCount = 1
    sync_batch_norm: bool = False

    @model_validator(mode="after")
    def _drops_happen(self) -> Training:
        if isinstance(self.schedule, Step) and self.schedule.drops and self.schedule.drops[-1] >= self.epochs:
            raise ValueError(
                f"schedule.drops {self.schedule.drops} must lie before the end: epochs is {self.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _batch_is_shared(self) -> Training:
        if self.batch_size % self.devices:
            raise ValueError(
                f"devices: found {self.devices}, which does not divide batch_size {self.batch_size}; allowed: "
                + ", ".join(str(n) for n in range(1, self.batch_size + 1) if self.batch_size % n == 0)
            )
        return self


InFull = PlainSerializer(lambda recipe: recipe.model_dump(mode="json"))
"""Serialises a recipe of a single network with its defaults: a key that it leaves out is the study's."""
SHARED = ("precision", "devices", "sync_batch_norm")
"""Keys that are the same in every recipe of a study: they describe the machine rather than the network."""


def _is_a_size(text: int | str) -> int | str:
    try:
        parse_bytes(str(text))
    except MoonshineError as error:
        raise ValueError(str(error)) from None
    return text


class Runtime(Section):
    """Execution settings: how a node runs, not what it computes, so that changing them reruns nothing.

    ``workers`` processes decode images of datasets that are decoded during training; by default as many as ``threads``.
    ``teacher_store`` is the disk space that the teacher's outputs may take, such as ``20GB``. Without ``deterministic``
    GPUs choose their fastest kernels, whose bits differ from run to run.
    """

    threads: ProcessCount
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$")]
    channels_last: Literal["auto"] | bool
    compile: bool
    workers: Annotated[int, Field(ge=0, le=256)] | None = None
    teacher_store: Annotated[Literal[0] | Text, AfterValidator(_is_a_size)] = "20GB"
    deterministic: bool = True

    @property
    def teacher_store_bytes(self) -> int:
        return parse_bytes(str(self.teacher_store))
