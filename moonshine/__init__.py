"""Structural model distillation with cheap convolutions.

The stable interface is a handful of calls, loaded on first use so that ``import moonshine`` costs nothing:
``build``, ``cost``, ``plan``, ``substitute``, ``objective``, ``distil``,
``export_network``, ``load``; see docs/library.md.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from moonshine.errors import MoonshineError

# ONNX Runtime reads this when it is imported, which only modules of this package do; DO_NOT_TRACK it does not heed. It
# would keep a device id and a queue of events in the home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

_HOMES = {
    "build": "moonshine.structures.build",
    "cost": "moonshine.costs.cost",
    "distil": "moonshine.calls.distil",
    "export_network": "moonshine.calls.export_network",
    "load": "moonshine.structures.artifacts",
    "objective": "moonshine.calls.objective",
    "plan": "moonshine.calls.plan",
    "substitute": "moonshine.substitution.substitute",
}

__all__ = [
    "MoonshineError",
    "__version__",
    "build",
    "cost",
    "distil",
    "load",
    "objective",
    "plan",
    "substitute",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'moonshine' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
