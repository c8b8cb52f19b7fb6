"""Plain defaults of params.yaml: sections that may be left out, and keys that may be left out of a section.

They are filled in before the study is checked, so that it is the same as one that states them: for the engines, in
what is stored with results, and when a later version has other defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "augment": {"crop_padding": 0, "flip": False},
    "training": {
        "batch_size": 64,
        "optimizer": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False},
        "schedule": {"kind": "one-cycle", "warmup": 0.3, "start": 0.1, "end": 0.001},
        "precision": "auto",
    },
    "runtime": {"threads": 1, "device": "auto", "channels_last": "auto", "compile": False},
    "report": {"published": None},
    "ship": {"allowed_error_pct": None, "calibration_images": 256, "logit_tolerance": 0.001},
}
_ABSENT = ("ship",)
"""Sections whose absence is itself a setting: nothing is exported."""


def with_defaults(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study with the defaults of what it leaves out; what it states is kept as it is, right or wrong."""
    filled = dict(content)
    for section, keys in DEFAULTS.items():
        stated = content.get(section, None if section in _ABSENT else {})
        filled[section] = {**keys, **stated} if isinstance(stated, Mapping) else stated
    return filled
