"""The section ``methods`` of a study: what a student is distilled with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer, model_validator

from moonshine.fields import NonNegative, Positive, Section


class KD(Section):
    """Settings of ``moonshine.distillation.kd``."""

    form: Literal["textbook", "released"]
    temperature: Positive
    alpha: Annotated[float, Field(ge=0, le=1)]


class AT(Section):
    """Settings of ``moonshine.distillation.at``."""

    form: Literal["released", "paper", "resolution-free"]
    beta: NonNegative


class Method(Section):
    """A distillation loss: its terms with their settings.

    The key of a term is the name of its file in ``moonshine.distillation``, of its column in a history, of its metric
    in MLflow, and of its part in the name of the loss.
    """

    kd: KD | None = Field(None, title="knowledge distillation (KD)")
    at: AT | None = Field(None, title="attention transfer (AT)")

    @property
    def terms(self) -> dict[str, Section]:
        """Settings of each term that the method has."""
        return {name: settings for name, settings in self if settings is not None}

    @property
    def loss(self) -> str:
        """Name of the loss, such as ``kd+at``, whatever its key in params.yaml is."""
        return "+".join(self.terms)

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
