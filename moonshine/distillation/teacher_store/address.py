"""Address of a schedule: a checksum of all that a teacher's outputs for it depend on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import moonshine
from moonshine.training.execution import Execution

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")
"""What builds and runs a teacher, and prepares its images."""
SETTINGS = ("ATEN_", "CUBLAS_", "DNNL_", "MKL_", "NVIDIA_TF32", "ONEDNN_", "TORCH_")
"""Beginnings of environment variables that choose kernels."""


def address(about: Mapping[str, Any]) -> str:
    """Checksum of JSON-able values, the installed versions, and this library's own code."""
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return _checksum({**about, "versions": found, "code": _code()})


def method(execution: Execution, shard: tuple[int, int]) -> str:
    """Checksum of what else the bits of outputs depend on: processor, threads, precision, layout, share of a batch."""
    device: dict[str, Any] = {"cpu": _processor(), "threads": torch.get_num_threads()}
    if execution.device.type == "cuda":
        device = {
            "gpu": torch.cuda.get_device_name(execution.device),
            "capability": torch.cuda.get_device_capability(execution.device),
            "cudnn": [torch.backends.cudnn.version(), torch.backends.cudnn.benchmark],
            "tf32": [torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()],
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }
    return _checksum(
        {
            **device,
            "build": torch.__config__.show(),
            "environment": {name: value for name, value in os.environ.items() if name.startswith(SETTINGS)},
            "dtype": str(execution.dtype),
            "channels_last": execution.channels_last,
            "shard": shard,
        }
    )


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """Checksum of this library's files: which of them a teacher's outputs depend on is not known here."""
    digest = hashlib.sha256()
    root = Path(moonshine.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _processor() -> list[str]:
    """The model of the processor and its instruction sets: kernels are chosen, and blocked, by both."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        wanted = ("model name", "cache size", "flags", "Features", "CPU part")
        return sorted({line for line in lines if line.startswith(wanted)})
    return [platform.processor(), platform.machine(), torch.backends.cpu.get_cpu_capability()]
