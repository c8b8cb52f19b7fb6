"""The text of a new params.yaml, with a comment to each key that invites a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from moonshine.config.defaults import DEFAULTS

EPOCHS = 30
SEEDS = (0, 1, 2)
METHODS = {"at": {"at": {"form": "resolution-free", "beta": 1000.0}}}
SMALL_BATCH = 16
"""Batch size where one of the default size would be more than a tenth of the training images."""
_COMMENTS = {
    "data": "which images, by checksum: moonshine checksum PATH",
    "sha256": "a changed image is another study",
    "resize": "the shorter side becomes so many pixels",
    "crop": "then the middle of it is what the network sees",
    "size": "null keeps the images as they are",
    "channels": "grey images are repeated",
    "validation": "share of the training images that chooses what ships",
    "normalisation": "of pixels in [0, 1], as the weights were trained with",
    "augment": "of training images; flip: true mirrors half of them",
    "teacher": "what the students learn from",
    "kwargs": "arguments of the function",
    "weights": "its trained weights",
    "head": "the weights are for other classes: a new last layer is drawn",
    "finetune": "and the network is trained on, by its own recipe",
    "students": "what is compared; `moonshine plan` shows what fits a budget",
    "methods": "beside scratch, which always runs: docs/methods.md",
    "seeds": "every student is trained once with each; intervals need several",
    "training": "the recipe of all networks that are trained",
    "runtime": "how nodes run; changes no result",
    "ship": "what the chosen student may take",
    "allowed_error_pct": "null: any error",
}


def study_text(
    name: str,
    data: Mapping[str, Any],
    teacher: Mapping[str, Any],
    students: Mapping[str, Any],
    budgets: Sequence[str],
    train: int,
) -> str:
    """Return a whole study as a file; ``train`` is its number of training images."""
    training = {"epochs": EPOCHS, **DEFAULTS["training"]}
    if train < 10 * training["batch_size"]:
        training["batch_size"] = SMALL_BATCH
    sections: dict[str, Any] = {
        "data": data,
        "augment": DEFAULTS["augment"],
        "teacher": teacher,
        "students": students,
        "methods": METHODS,
        "seeds": list(SEEDS),
        "training": training,
        "runtime": DEFAULTS["runtime"],
    }
    if budgets:
        sections["ship"] = {"budget": budgets[0] if len(budgets) == 1 else list(budgets), **DEFAULTS["ship"]}
    lines = [
        "# Written by `moonshine init`; docs/params.md explains every key, and which may be left out.",
        f"study: {name}",
    ]
    for section, content in sections.items():
        lines += ["", *_lines(section, content)]
    return "\n".join(lines) + "\n"


def _lines(key: str, content: Any) -> list[str]:
    comment = f" # {_COMMENTS[key]}" if key in _COMMENTS else ""
    if key in ("augment", "methods", "runtime", "seeds"):
        return [f"{key}: {_flow(content)}{comment}"]
    lines = [f"{key}:{comment}"]
    for name, value in content.items():
        lines.append(
            f"  {_flow(name)}: {_flow(value)}" + (f" # {_COMMENTS[name]}" if name in _COMMENTS else "")
        )
    return lines


def _flow(value: Any) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, width=1_000_000, sort_keys=False, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...")
