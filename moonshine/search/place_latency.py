"""How long each block takes at each place of a network on this machine's CPU."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from moonshine.costs.latency import WARM_UP, threads_set_to
from moonshine.search.space import Space


@dataclass(frozen=True)
class Latencies:
    """Milliseconds of each block at each place and of the rest, to 3 digits; batch 1, as `moonshine.costs.latency`."""

    rest_ms: float
    table: Mapping[str, Mapping[str, float]]
    threads: int


def measure_latencies(space: Space, *, threads: int = 1, repeats: int = 5) -> Latencies:
    """The median over ``repeats`` forward passes of a network per block that has it wherever it fits.

    Their sum over a network's places is an estimate of its latency: a block leaves caches as its neighbour finds them.
    torch's threads and random generator are afterwards as they were.
    """
    table: dict[str, dict[str, float]] = {path: {} for path in space.places}
    rest: list[float] = []
    images = torch.zeros(1, *space.input_shape).contiguous(memory_format=torch.channels_last)
    with torch.random.fork_rng(devices=[]), threads_set_to(threads), torch.inference_mode():
        for block in space.blocks:
            chosen = space.uniform(block)
            network = space.build(chosen).to(memory_format=torch.channels_last).eval()
            times = _time(network, images, space.places, repeats)
            rest += times.pop("")
            for path in chosen:
                table[path][block] = round(statistics.median(times[path]), 3)
    return Latencies(round(statistics.median(rest), 3), table, threads)


def _time(
    network: nn.Module, images: torch.Tensor, paths: Sequence[str], repeats: int
) -> dict[str, list[float]]:
    """Path -> milliseconds of each forward pass; ``""`` is what ran outside the paths."""
    passes: list[dict[str, float]] = []
    started: list[float] = []

    def stop(path: str) -> None:
        passes[-1][path] += (time.perf_counter() - started.pop()) * 1000

    for path in paths:
        module = network.get_submodule(path)
        module.register_forward_pre_hook(lambda *_: started.append(time.perf_counter()))
        module.register_forward_hook(lambda *_, path=path: stop(path))
    for _ in range(WARM_UP + repeats):
        passes.append(defaultdict(float))
        started.append(time.perf_counter())
        network(images)
        stop("")
        passes[-1][""] -= sum(passes[-1][path] for path in paths)
    return {path: [each[path] for each in passes[WARM_UP:]] for path in ("", *paths)}
