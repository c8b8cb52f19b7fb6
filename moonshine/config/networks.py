"""Sections ``students`` and ``ship`` of a study: what is compared, and what may be shipped."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from moonshine.config.compression import Compress
from moonshine.config.training import InFull, Training
from moonshine.costs.budgets import parse_budgets
from moonshine.errors import MoonshineError
from moonshine.fields import FilePath, Kwargs, NonNegative, Positive, Section, Seed, Text, Whole

Budgets = Text | list[Text]


def _check(budgets: Budgets) -> None:
    try:
        parse_budgets(budgets)
    except MoonshineError as error:
        raise ValueError(str(error)) from None


class Finalists(Section):
    """Finalists of a search: the ``count`` best are trained for ``epochs`` and compared by validation error.

    All are trained with the same simple recipe (SGD, one cycle up to ``lr``, no augmentation), so that the choice does
    not depend on the study's own recipe.
    """

    count: Whole
    epochs: Whole
    batch_size: Annotated[int, Field(ge=2, le=10**6)]
    lr: Positive


class Mixed(Section):
    """Settings of the search for a mixed student under a budget; see ``moonshine.search.search``.

    ``blocks`` are blocks and names of `moonshine.blocks.presets`, by default the paper's. By default, candidates are
    scored on a batch of 64 images, or fewer if images are large.
    """

    budget: Budgets
    score: Literal["fisher", "parameters", "macs", "random"] = "fisher"
    blocks: Text | list[Text] | None = None
    candidates: Whole = 1000
    best: Whole = 50
    initialisations: Whole = 5
    batch_size: Whole | None = None
    window: float = Field(default=0.025, gt=0, le=1)
    seed: Seed = 0
    finalists: Finalists | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Mixed:
        _check(self.budget)
        return self


class Rival(Section):
    """Settings of a rival: the largest network of the teacher's family within a budget, scaled in width or depth.

    Or the teacher itself with ``compress``; then ``budget`` limits its ``network.dc``.
    """

    scale: Literal["width", "depth"] | None = None
    compress: Compress | None = None
    budget: Budgets | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Rival:
        if (self.scale is None) == (self.compress is None):
            raise ValueError("needs either 'scale' (width or depth) or 'compress'")
        if self.budget is not None:
            _check(self.budget)
        if self.compress is None and self.budget is None:
            raise ValueError("budget: missing; allowed: such as 300k params")
        if self.compress and self.compress.sparsity is None and self.budget is None:
            raise ValueError("needs 'budget' (such as 60kB dc) or 'compress.sparsity'")
        if self.compress and any(budget.measure != "dc" for budget in parse_budgets(self.budget or "1B dc")):
            raise ValueError(
                f"budget: found {self.budget}; allowed beside compress: bytes of its file, such as 60kB dc"
            )
        return self


class WarmStart(Section):
    """Warm start of a distilled student: layers shared with the teacher are copied, blocks fitted to the teacher's."""

    fit: Literal["least-squares", "steps"]
    batches: Whole
    steps: Whole | None = None

    @model_validator(mode="after")
    def _says_how_long(self) -> WarmStart:
        if (self.fit == "steps") != (self.steps is not None):
            raise ValueError("'steps' (their number) is required with fit: steps, and allowed only with it")
        return self


class Student(Section):
    """Student: a network with one block or blocks by place, a structure from a file, a mixed student, or a rival.

    ``blocks`` maps patterns of places to blocks; the first pattern that matches counts. It is serialised as pairs,
    since both engines treat mappings that differ in order only as equal. ``structure`` is the path of a
    ``structure.json``. ``training`` is a recipe of its own, ``kwargs`` are arguments of a third-party network; those of
    the teacher's network add to ``teacher.kwargs``. ``compress`` prunes its weights and shares them once it is trained.
    """

    network: Text | None = None
    block: Text | None = None
    blocks: Annotated[dict[Text, Text], Field(min_length=1)] | None = None
    structure: FilePath | None = None
    mixed: Mixed | None = None
    rival: Rival | None = None
    kwargs: Kwargs | None = None
    warm_start: WarmStart | None = None
    training: Annotated[Training, InFull] | None = None
    compress: Compress | None = None

    @field_validator("blocks", mode="before")
    @classmethod
    def _from_pairs(cls, found: Any) -> Any:
        is_pairs = isinstance(found, list) and all(
            isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in found
        )
        pairs = found if is_pairs else list(found.items()) if isinstance(found, dict) else []
        if odd := [pattern for pattern, _ in pairs if not isinstance(pattern, str)]:
            raise ValueError(f"found {odd[0]!r} as a pattern; allowed: text in quotes, such as 'stage1.*'")
        if len(dict(pairs)) < len(pairs):
            raise ValueError("found a pattern twice; allowed: once")
        return dict(pairs) if is_pairs else found

    @field_serializer("blocks")
    def _as_pairs(self, blocks: dict[str, str] | None) -> list[list[str]] | None:
        return None if blocks is None else [list(pair) for pair in blocks.items()]

    @model_validator(mode="after")
    def _says_something(self) -> Student:
        of_the_teacher = self.structure, self.mixed, self.rival
        ways = sum(way is not None for way in (self.block, self.blocks, *of_the_teacher))
        if ways > 1 or (self.network is None and not ways) or (self.network and any(of_the_teacher)):
            raise ValueError(
                "needs 'block' (such as G(4)), 'blocks' (by place) or 'network' (such as wrn-16-2, also with one of "
                "these); or 'structure' (a file); or 'mixed'; or 'rival'"
            )
        if self.kwargs and (self.mixed or self.rival):
            raise ValueError(
                "kwargs: belong to a network that is stated; found them beside 'mixed' or 'rival', which start from "
                "the teacher's; allowed: teacher.kwargs"
            )
        return self

    @model_validator(mode="after")
    def _says_how_sparse(self) -> Student:
        if self.compress and self.compress.sparsity is None:
            raise ValueError("compress.sparsity: missing; allowed: from 0, less than 1")
        if self.rival and self.rival.compress and (self.compress or self.warm_start):
            raise ValueError(
                "rival.compress: found beside compress or warm_start; allowed: alone, since it starts from the teacher"
            )
        return self

    @property
    def compression(self) -> Compress | None:
        """Return how it is compressed, as a rival or otherwise; None if it is not."""
        return self.compress or (self.rival.compress if self.rival else None)

    @property
    def is_teacher(self) -> bool:
        """Return whether it is the teacher, compressed: distilled students of this kind start from its weights."""
        return self.rival is not None and self.rival.compress is not None


class Ship(Section):
    """Settings of the export: of the students that fit ``budget``, the one with the lowest validation error.

    ``allowed_error_pct`` is the largest acceptable validation error of the file that the budget limits; null accepts
    any. The file may be worse than its network by ``allowed_fall_points`` before another student is preferred. The
    ranges of the INT8 file are computed from ``calibration_images`` training images; ``logit_tolerance`` is the largest
    difference of a float file's logits.
    """

    budget: Budgets
    allowed_error_pct: Positive | None
    calibration_images: Whole
    logit_tolerance: NonNegative
    allowed_fall_points: NonNegative = 1.0

    @model_validator(mode="after")
    def _is_a_budget(self) -> Ship:
        _check(self.budget)
        return self
