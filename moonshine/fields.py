"""Field types of the sections of ``params.yaml``. Numbers are bounded: none overflows, or exceeds what makes sense."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from moonshine.errors import shorten


def _is_a_path(text: str) -> str:
    parts = os.fsencode(text).split(b"/")
    try:
        Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"found {shorten(text)}: {error}") from None
    if b"\0" in b"".join(parts) or max(map(len, parts)) > 255 or len(text) > 4000:
        raise ValueError(f"found {shorten(text)!r}; allowed: a path that a file system takes")
    return text


def _is_json(kwargs: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        json.dumps(kwargs, allow_nan=False)
    except ValueError:
        raise ValueError("found a number that is not finite; allowed: what JSON holds") from None
    return kwargs


Kwargs = Annotated[dict[str, JsonValue], AfterValidator(_is_json)]
# DVC splits parameter names on dots, and both engines put these keys into stage and file names and into commands, where
# what begins with '-' is an option. Three of them and a seed are one file's name.
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+][A-Za-z0-9_+-]*$", max_length=64)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(max_length=255)]
FilePath = Annotated[str, AfterValidator(_is_a_path)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
Whole = Annotated[int, Field(ge=1, le=10**7)]
ProcessCount = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Side = Annotated[int, Field(ge=8, le=16384)]
Sides = Annotated[list[Side], Field(min_length=2, max_length=2)]
"""[height, width] in pixels."""


class Section(BaseModel):
    """A mapping of the file: unknown keys and silent conversions are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
