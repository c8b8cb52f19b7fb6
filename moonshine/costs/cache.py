"""Cache, in the user's home, of slow measurements: latencies and sizes of exported files on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from typing import Any

from moonshine import __version__
from moonshine.errors import MoonshineError
from moonshine.files import cache_folder, read_json, write_json

VERSIONED_PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnx-ir", "onnxruntime", "onnxscript")
"""Packages that build, run and write networks: a measurement holds for one version of each."""


def cached(
    about: Mapping[str, Any],
    measure: Callable[[], dict[str, Any]],
    *,
    worth_keeping: Callable[[dict[str, Any]], bool] = lambda found: True,
    again: bool = False,
) -> dict[str, Any]:
    """Return the cached result of ``measure`` for ``about`` on this machine; else call it and cache the result.

    ``about`` is all that the measurement depends on, besides machine and versions. Only a result that is
    ``worth_keeping`` is cached; ``again`` measures even if there is one. A damaged or read-only cache is ignored.
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
    for name in VERSIONED_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
