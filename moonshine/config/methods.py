"""The section ``methods`` of a study: what a student is distilled with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moonshine.fields import NonNegative, Positive, Section


class KD(Section):
    """Knowledge distillation; see ``moonshine.distillation.kd.knowledge_distillation``."""

    form: Literal["textbook", "released"]
    temperature: Positive
    alpha: Annotated[float, Field(ge=0, le=1)]


class AT(Section):
    """Attention transfer; see ``moonshine.distillation.at.attention_transfer``."""

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
