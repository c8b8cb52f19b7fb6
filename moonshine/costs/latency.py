"""Latency of a network, measured on this machine."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from moonshine.costs.budgets import SPREAD
from moonshine.networks.passes import choose_memory_format

logger = logging.getLogger(__name__)

WARM_UP_PASSES = 2
VISITS = (2, 4)
"""Fewest and most times that a network is timed, alternating with the other networks if there are any."""
RELIABLE = SPREAD
"""Largest spread of a reliable time; a larger one means a busy machine."""
LEAST_SPREAD = 0.02


@dataclass(frozen=True)
class Visit:
    """Milliseconds of each part of a network in one visit; ``waited`` is the share in which others had the CPU."""

    ms: Mapping[str, float]
    waited: float = 0.0

    @property
    def total(self) -> float:
        return sum(self.ms.values())


@contextmanager
def visiting() -> Iterator[Callable[[], float]]:
    """Yield a function that returns the share of the context's time in which this process did not compute."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield lambda: max(0.0, 1 - (time.process_time() - cpu) / (time.perf_counter() - wall))


def settled(visits: Sequence[Visit]) -> tuple[dict[str, float], float]:
    """Return the mean of the two fastest visits, by part, and its spread: smaller relative differences mean nothing.

    Disturbances only ever make a visit longer. The spread is the relative difference of the two visits, or the share of
    either in which the process had to wait, whichever is larger.
    """
    first, second = sorted(visits, key=lambda visit: visit.total)[:2]
    spread = max(second.total / first.total - 1, first.waited, second.waited, LEAST_SPREAD)
    return {part: (first.ms[part] + second.ms[part]) / 2 for part in first.ms}, round(spread, 3)


def is_settled(visits: Sequence[Visit]) -> bool:
    """Whether there are enough visits: the fewest, if their spread is small, or the most."""
    return len(visits) >= VISITS[1] or (len(visits) >= VISITS[0] and settled(visits)[1] <= RELIABLE)


def latency(module: nn.Module, shape: Sequence[int], threads: int, repeats: int = 5) -> float:
    """Return the wall time in milliseconds of an eager fp32 forward pass in eval mode on the CPU, channels last.

    The mean of the two fastest of 2 to 4 medians over ``repeats`` passes; logs a warning if even these differ, as on a
    busy machine. ``shape`` of the zero images is (batch, channels, height, width). The module is moved to the CPU and
    to channels last, or to torch's default layout if it does not run so.
    """
    module = module.to("cpu").eval()
    images = torch.zeros(tuple(shape))
    images = images.contiguous(memory_format=choose_memory_format(module, images))
    visits: list[Visit] = []
    with threads_set_to(threads), torch.inference_mode():
        for _ in range(WARM_UP_PASSES):
            module(images.clone())  # a network may write into its input
        while not is_settled(visits):
            seconds = []
            with visiting() as waited:
                for _ in range(repeats):
                    fresh = images.clone()
                    start = time.perf_counter()
                    module(fresh)
                    seconds.append(time.perf_counter() - start)
                visits.append(Visit({"": 1000 * statistics.median(seconds)}, waited()))
    found, spread = settled(visits)
    if spread > RELIABLE:
        logger.warning("latency %s", unreliable(spread))
    return round(found[""], 3)


def unreliable(spread: float) -> str:
    """Return the warning about a time with a large spread."""
    return f"is unreliable: measured again, it differed by {spread:.0%}, as on a busy machine"


@contextmanager
def threads_set_to(count: int) -> Iterator[None]:
    """Let torch compute with ``count`` threads within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
