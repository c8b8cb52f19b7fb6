"""Sections ``teacher``, ``students`` and ``ship`` of a study: the networks, and what may be shipped."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_serializer, field_validator, model_validator

from moonshine.costs.budgets import parse_budgets
from moonshine.errors import MoonshineError
from moonshine.fields import FilePath, NonNegative, Positive, Section, Seed, Sha256, Text, Whole
from moonshine.networks.families import is_model

Budgets = Text | list[Text]
PUBLISHED = "torchvision"
"""Value of ``weights`` for the pretrained weights that torchvision publishes; write ./torchvision for such a file."""


def _check(budgets: Budgets) -> None:
    try:
        parse_budgets(budgets)
    except MoonshineError as error:
        raise ValueError(str(error)) from None


class Teacher(Section):
    """Network that the students learn from: ``network`` is a built-in one, ``model`` a third-party one.

    With ``weights`` it is pretrained and only evaluated; without, it is trained first, with ordinary blocks. Weights
    that torchvision publishes need no ``weights_sha256``, since their file names contain it. ``weights_prefix`` selects
    a file's tensors where that is ambiguous. ``include`` and ``exclude`` are patterns of the places where students of a
    model may get cheap blocks. ``taps`` are the modules whose outputs attention transfer compares, discovered by
    default.
    """

    network: Text | None = None
    model: Text | None = None
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    weights: FilePath | None = None
    weights_sha256: Sha256 | None = None
    weights_prefix: Text | None = None
    include: list[Text] = Field(default_factory=list)
    exclude: list[Text] = Field(default_factory=list)
    taps: list[Text] | None = None
    seed: Seed

    @model_validator(mode="after")
    def _is_one_network(self) -> Teacher:
        if (self.network is None) == (self.model is None):
            raise ValueError(
                "needs either 'network' (such as wrn-16-1) or 'model' (such as torchvision/resnet18 or my_nets:build)"
            )
        try:
            json.dumps(self.kwargs, allow_nan=False)
        except ValueError:
            raise ValueError("kwargs: found a number that is not finite; allowed: what JSON holds") from None
        if self.model is not None and not is_model(self.model):
            raise ValueError(
                f"model is {self.model!r}; allowed: torchvision/<name>, timm/<name> or <module>:<function>"
            )
        if self.network is not None and is_model(self.network):
            raise ValueError(f"network is {self.network!r}, which names a model; write model: {self.network}")
        for key in ("kwargs", "include", "exclude"):
            if self.network is not None and getattr(self, key):
                raise ValueError(f"{key} belongs to a 'model'; found it beside network: {self.network}")
        if self.weights == PUBLISHED:
            if self.model is None or not self.model.startswith("torchvision/"):
                raise ValueError(
                    f"weights: torchvision are those of its own models; found them with {self.name}; allowed: "
                    "model: torchvision/<name>, or a file of weights"
                )
            if self.weights_sha256 is not None:
                raise ValueError(
                    "weights_sha256: weights: torchvision have their checksum in their name; allowed: leave it out"
                )
        if self.weights_prefix is not None and self.weights in (None, PUBLISHED):
            raise ValueError("weights_prefix: belongs to a file of weights, and there is none")
        if self.weights != PUBLISHED and (self.weights is None) != (self.weights_sha256 is None):
            raise ValueError(
                "'weights' and 'weights_sha256' come together; `moonshine checksum FILE` prints the latter"
            )
        return self

    @property
    def name(self) -> str:
        """Return the name of the network or model."""
        return self.network or self.model or ""


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
    """Settings of a rival: the largest network of the teacher's family within a budget, scaled in width or depth."""

    scale: Literal["width", "depth"]
    budget: Budgets

    @model_validator(mode="after")
    def _is_a_budget(self) -> Rival:
        _check(self.budget)
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
    ``structure.json``.
    """

    network: Text | None = None
    block: Text | None = None
    blocks: Annotated[dict[Text, Text], Field(min_length=1)] | None = None
    structure: FilePath | None = None
    mixed: Mixed | None = None
    rival: Rival | None = None
    warm_start: WarmStart | None = None

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
        return self


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
