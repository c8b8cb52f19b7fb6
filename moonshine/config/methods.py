"""The section ``methods`` of a study: what a student is distilled with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer, model_validator

from moonshine.config.augment import Augment
from moonshine.errors import MoonshineError
from moonshine.fields import NonNegative, Positive, Section, Text, Whole


class TermSettings(Section):
    """Settings of one term of a loss."""

    @property
    def pretraining(self) -> int:
        """Number of the first epochs in which nothing but this term is trained on; 0 for a term of all other epochs."""
        return 0

    @property
    def depends_on_epoch(self) -> bool:
        """Whether it is another loss in some epochs than in others."""
        return self.pretraining > 0

    @property
    def reads_taps(self) -> bool:
        """Whether it compares the outputs of student and teacher at the taps."""
        return False

    @property
    def names_layers(self) -> bool:
        """Whether settings are paths of layers, which are looked up in the networks before anything trains."""
        return False

    @property
    def needs_classes(self) -> bool:
        """Whether it needs the one class of each image or pixel, which mixed images do not have."""
        return False

    @property
    def differentiates_twice(self) -> bool:
        """Whether its gradient is a second derivative of the student, by its input too: of one label per image."""
        return False


class KD(TermSettings):
    """Settings of ``moonshine.distillation.losses.kd``."""

    form: Literal["textbook", "released", "unscaled"]
    temperature: Positive
    alpha: Annotated[float, Field(ge=0, le=1)]
    standardise: bool = False


class Logits(TermSettings):
    """Settings of ``moonshine.distillation.losses.logits``; ``labels`` is the share of the cross-entropy beside it."""

    weight: Positive
    labels: Annotated[float, Field(ge=0, le=1)]


class DKD(TermSettings):
    """Settings of ``moonshine.distillation.losses.dkd``; in the first ``warmup`` epochs its weight rises."""

    temperature: Positive
    alpha: NonNegative
    beta: NonNegative
    warmup: Annotated[int, Field(ge=0, le=10**7)]

    @property
    def needs_classes(self) -> bool:
        return True

    @property
    def depends_on_epoch(self) -> bool:
        return self.warmup > 0


class DIST(TermSettings):
    """Settings of ``moonshine.distillation.losses.dist``: ``beta`` weighs samples, ``gamma`` classes."""

    temperature: Positive
    beta: NonNegative
    gamma: NonNegative


class AT(TermSettings):
    """Settings of ``moonshine.distillation.losses.at``; ``map`` and the exponent ``p`` say which attention map."""

    form: Literal["released", "paper", "resolution-free"]
    beta: NonNegative
    map: Literal["mean", "sum", "max"] = "mean"
    p: Annotated[float, Field(ge=1, le=8)] = 2.0

    @property
    def reads_taps(self) -> bool:
        return True


class GradientAT(TermSettings):
    """Settings of ``moonshine.distillation.losses.gradient_at``."""

    beta: NonNegative

    @property
    def needs_classes(self) -> bool:
        return True

    @property
    def differentiates_twice(self) -> bool:
        return True


class Hints(TermSettings):
    """Settings of ``moonshine.distillation.losses.hints``: paths of layers, and how many of the first epochs."""

    hint: Text
    guided: Text
    epochs: Whole
    weight: Positive

    @property
    def pretraining(self) -> int:
        return self.epochs

    @property
    def names_layers(self) -> bool:
        return True


class Method(Section):
    """A distillation loss: its terms with their settings.

    The key of a term is the name of its file in ``moonshine.distillation.losses``, of its column in a history, of its
    metric in MLflow, and of its part in the name of the loss.
    """

    kd: KD | None = Field(None, title="knowledge distillation (KD)")
    logits: Logits | None = Field(None, title="logit regression")
    dkd: DKD | None = Field(None, title="decoupled KD (DKD)")
    dist: DIST | None = Field(None, title="relations between predictions (DIST)")
    at: AT | None = Field(None, title="attention transfer (AT)")
    gradient_at: GradientAT | None = Field(None, title="gradient-based attention transfer (gradient AT)")
    hints: Hints | None = Field(None, title="hints (FitNets)")

    @property
    def terms(self) -> dict[str, TermSettings]:
        """Settings of each term that the method has."""
        return {name: settings for name, settings in self if settings is not None}

    @property
    def loss(self) -> str:
        """Name of the loss, such as ``kd+at``, whatever its key in params.yaml is."""
        return "+".join(self.terms)

    def phases(self, epochs: int) -> list[tuple[int, Method | None]]:
        """Number of epochs of each phase of a training, and its terms; None for the cross-entropy on the labels alone.

        Terms with pretraining come first, one after the other and without the labels, then all others together.
        MoonshineError where nothing is left for these.
        """
        alone = {name: settings for name, settings in self.terms.items() if settings.pretraining}
        found: list[tuple[int, Method | None]] = [
            (settings.pretraining, type(self).model_validate({name: settings}))
            for name, settings in alone.items()
        ]
        rest = {name: settings for name, settings in self.terms.items() if name not in alone}
        left = epochs - sum(count for count, _ in found)
        if left < 1:
            raise MoonshineError(
                f"{'+'.join(alone)}: found {epochs - left} epochs of pretraining; allowed: up to {epochs - 1}, one "
                "less than training.epochs"
            )
        return [*found, (left, type(self).model_validate(rest) if rest else None)]

    def check_mixes(self, augment: Augment) -> None:
        """MoonshineError for mixup or cutmix beside a term that needs the class of each image."""
        for key, alpha in augment.mixes.items():
            for name in (name for name, settings in self.terms.items() if settings.needs_classes):
                raise MoonshineError(
                    f"{name}: needs one class per image, beside augment.{key}: found {alpha}; allowed: no mixup or "
                    "cutmix"
                )

    @model_validator(mode="after")
    def _has_a_term(self) -> Method:
        if not self.terms:
            raise ValueError(
                f"found no term; allowed: at least one of {', '.join(type(self).model_fields)} (scratch, without a "
                "teacher, always runs)"
            )
        return self

    @model_serializer
    def _without_absent_terms(self) -> dict[str, Any]:
        """A new kind of term does not change what earlier results recorded."""
        return {name: settings.model_dump() for name, settings in self.terms.items()}
