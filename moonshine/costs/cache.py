"""A cache, in the user's home, of slow measurements: latencies and sizes of exported files on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from moonshine import __version__
from moonshine.errors import MoonshineError
from moonshine.files import read_json, write_json

PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnx-ir", "onnxruntime", "onnxscript")
"""What networks are built, run and written with: of another version, another measurement."""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/moonshine``, or ``~/.cache/moonshine``: losing it costs time and nothing else."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "moonshine"


def remembered(
    about: Mapping[str, Any],
    measure: Callable[[], dict[str, Any]],
    *,
    worth_keeping: Callable[[dict[str, Any]], bool] = lambda found: True,
    again: bool = False,
) -> dict[str, Any]:
    """What ``measure`` gave when it was last called for ``about`` here; else it is called, and kept if it is worth it.

    ``about`` is what the measurement depends on, beside machine and versions. ``again`` measures anew whatever is kept.
    A cache that is damaged or cannot be written is as good as none.
    """
    here = {
        **about,
        "machine": [platform.node(), platform.processor(), platform.machine(), os.cpu_count()],
        "versions": {"moonshine": __version__, **_versions()},
    }
    key = hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / f"{key}.json"
    if not again:
        with suppress(MoonshineError, OSError):
            return read_json(path)
    found = measure()
    if worth_keeping(found):
        with suppress(MoonshineError, OSError):
            write_json(path, found)
    return found


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
