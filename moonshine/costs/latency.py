"""How long a network takes here: measured, on this machine, and nowhere else."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

WARM_UP = 2


def latency(module: nn.Module, shape: Sequence[int], threads: int, repeats: int = 9) -> float:
    """Median wall time in milliseconds of an eager fp32 forward pass in eval mode on the CPU, channels last.

    ``shape`` is (batch, channels, height, width), of zeros. The module is moved to the CPU and to channels last.
    """
    module = module.to("cpu", memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    images = torch.zeros(tuple(shape)).contiguous(memory_format=torch.channels_last)
    seconds = []
    with threads_set_to(threads), torch.inference_mode():
        for _ in range(repeats + WARM_UP):
            start = time.perf_counter()
            module(images)
            seconds.append(time.perf_counter() - start)
    return round(1000 * statistics.median(seconds[WARM_UP:]), 3)


@contextmanager
def threads_set_to(count: int) -> Iterator[None]:
    """Within the context torch computes with ``count`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
