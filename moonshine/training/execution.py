"""Execution settings of a network: device, precision, memory layout, determinism."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import nn

from moonshine.config.training import Runtime
from moonshine.errors import MoonshineError
from moonshine.networks.passes import choose_memory_format, has_convolution_beyond_input, to_layout

# mallopt(3)
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_HEAP = 1000 << 20  # bytes, below the threshold of mmap
_HUGE_PAGE = 2 << 20


@dataclass(frozen=True)
class Execution:
    """Resolved settings; ``dtype`` is autocast's, float32 without autocast; ``workers`` processes decode images."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    channels_last: bool = True
    compile: bool = False
    workers: int = 0

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def place(self, module: nn.Module) -> nn.Module:
        """Move ``module`` to the device in the memory layout of this execution."""
        to_layout(module.to(self.device), self.memory_format)
        return module

    def suiting(self, module: nn.Module, input_shape: Sequence[int]) -> Execution:
        """Place ``module`` and return this execution, without settings in which the module fails or is wrong.

        These are channels_last, and bf16 on a CPU in two cases: if a convolution's stride exceeds its input, oneDNN
        leaves the weights' gradients uninitialised; if all taps of a dilated kernel lie in the padding, it crashes
        (torch 2.15; fp32 is right). ``input_shape`` is (channels, height, width). The module is otherwise unchanged,
        and no random numbers are drawn.
        """
        found = self
        images = torch.zeros(2, *input_shape, device=self.device)
        self.place(module)
        if self.channels_last:
            found = replace(found, channels_last=choose_memory_format(module, images) == torch.channels_last)
        if (
            self.device.type == "cpu"
            and self.dtype == torch.bfloat16
            and has_convolution_beyond_input(module, images)
        ):
            found = replace(found, dtype=torch.float32)
        return found


def resolve(runtime: Runtime, precision: str, index: int | None = None) -> Execution:
    """Replace ``auto`` with the fastest choice on this machine, and set threads and determinism for the process.

    bf16 where the device supports it natively, channels_last everywhere: see benchmarks/throughput.py. ``index`` is the
    GPU of this process if several processes have one each.
    Raises MoonshineError if the study names a GPU that does not exist.
    """
    torch.set_num_threads(runtime.threads)
    device = _device(runtime.device)
    if device.type == "cpu":
        _keep_freed_memory()
    if device.type == "cuda" and index is not None:
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    if device.type == "cuda":
        # on a CPU everything used here is deterministic anyway, and this takes a second to import its modules
        if runtime.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = not runtime.deterministic
        torch.use_deterministic_algorithms(runtime.deterministic, warn_only=True)
    bf16 = precision == "bf16" or (precision == "auto" and _has_fast_bf16(device))
    channels_last = True if runtime.channels_last == "auto" else runtime.channels_last
    return Execution(
        device,
        torch.bfloat16 if bf16 else torch.float32,
        channels_last,
        runtime.compile,
        runtime.threads if runtime.workers is None else runtime.workers,
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise MoonshineError(
                f"runtime.device: found {name}, but this machine has {count} GPUs; allowed: auto, cpu"
            )
    return device


@cache
def _keep_freed_memory() -> None:
    """Make glibc reuse large freed blocks instead of returning megabytes of feature maps to the kernel at every step.

    Page faults took a fifth of a training step of WRN-16-1. The heap also gets room for feature maps in huge pages,
    which take another 6 to 11 % off it: see benchmarks/throughput.py. None of it is in use before it is needed. Does
    nothing with another C library.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    libc.malloc.restype = ctypes.c_void_p
    if start := libc.malloc(_HEAP):
        first = -(-start // _HUGE_PAGE) * _HUGE_PAGE
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(start + _HEAP - first), mmap.MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(start))


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # oneDNN emulates bf16 on older CPUs, more slowly than fp32; the check is private in torch 2.11 to 2.15
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
