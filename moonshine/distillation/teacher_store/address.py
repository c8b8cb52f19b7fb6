"""Addresses in the store: checksums of everything that a teacher's outputs depend on."""

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
"""Packages that build and run a teacher and prepare its images."""
KERNEL_VARIABLES = ("ATEN_", "CUBLAS_", "DNNL_", "MKL_", "NVIDIA_TF32", "ONEDNN_", "TORCH_")
"""Prefixes of environment variables that influence the choice of kernels."""


def address(about: Mapping[str, Any]) -> str:
    """Return a checksum of JSON-serialisable values, the installed versions and this library's own code."""
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return _checksum({**about, "versions": found, "code": _code()})


def execution_address(execution: Execution, shard: tuple[int, int]) -> str:
    """Return a checksum of what else the bits depend on: device, threads, precision, layout, shard of a batch."""
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
            "environment": {
                name: value for name, value in os.environ.items() if name.startswith(KERNEL_VARIABLES)
            },
            "dtype": str(execution.dtype),
            "channels_last": execution.channels_last,
            "shard": shard,
        }
    )


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """Return a checksum of all files of this library: nothing here says which of them the outputs depend on."""
    digest = hashlib.sha256()
    root = Path(moonshine.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _processor() -> list[str]:
    """Return the CPU's model, cache size and instruction sets, which decide kernels and their blocking."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        wanted = ("model name", "cache size", "flags", "Features", "CPU part")
        return sorted({line for line in lines if line.startswith(wanted)})
    return [platform.processor(), platform.machine(), torch.backends.cpu.get_cpu_capability()]
