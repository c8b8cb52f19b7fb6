"""Latency of each block at each place of a network, measured on this machine's CPU."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from moonshine.costs.latency import (
    RELIABLE,
    VISITS,
    WARM_UP_PASSES,
    Visit,
    is_settled,
    settled,
    threads_set_to,
    visiting,
)
from moonshine.networks.passes import choose_memory_format
from moonshine.search.space import Space


@dataclass(frozen=True)
class Latencies:
    """Milliseconds of each block at each place and of the rest, to 3 digits; batch 1, as `moonshine.costs.latency`.

    ``spread`` is the relative difference of a block's time, over all its places, when it is measured again.
    """

    rest_ms: float
    table: Mapping[str, Mapping[str, float]]
    threads: int
    spread: Mapping[str, float] = field(default_factory=dict)

    @property
    def unreliable(self) -> dict[str, float]:
        """Blocks whose times are unreliable, with their spreads."""
        return {block: spread for block, spread in self.spread.items() if spread > RELIABLE}


def measure_latencies(space: Space, *, threads: int = 1, repeats: int = 3) -> Latencies:
    """Measure medians over ``repeats`` forward passes of a network per block, which has it wherever it fits.

    Every network is visited twice, after all the others, and up to four times where two visits differ, see
    `moonshine.costs.latency.settled`. The sum over the places of a network only estimates its latency, because
    neighbouring blocks share the caches. torch's threads and random generator are restored.
    """
    images = torch.zeros(1, *space.input_shape)
    visits: dict[str, list[Visit]] = {block: [] for block in space.blocks}
    with torch.random.fork_rng(devices=[]), threads_set_to(threads), torch.inference_mode():
        for _ in range(VISITS[1]):
            for block in space.blocks:
                if not is_settled(visits[block]):
                    visits[block].append(_visit(space, block, images, repeats))
    found = {block: settled(visits[block]) for block in space.blocks}
    table: dict[str, dict[str, float]] = {path: {} for path in space.places}
    for block, (times, _) in found.items():
        for path in space.uniform(block):
            table[path][block] = round(times[path], 3)
    rest = statistics.median(times[""] for times, _ in found.values())
    return Latencies(round(rest, 3), table, threads, {block: spread for block, (_, spread) in found.items()})


def _visit(space: Space, block: str, images: torch.Tensor, repeats: int) -> Visit:
    """Return the milliseconds at every place of a network with one block; ``""`` is everything outside the places."""
    network = space.build(space.uniform(block)).eval()
    images = images.contiguous(memory_format=choose_memory_format(network, images))
    passes, waited = _time(network, images, space.places, repeats)
    return Visit(
        {path: statistics.median(each[path] for each in passes) for path in ("", *space.places)}, waited
    )


def _time(
    network: nn.Module, images: torch.Tensor, paths: Sequence[str], repeats: int
) -> tuple[list[dict[str, float]], float]:
    """Return path -> milliseconds of each forward pass, and the share of time in which the process waited."""
    passes: list[dict[str, float]] = []
    started: list[float] = []

    def stop(path: str) -> None:
        passes[-1][path] += (time.perf_counter() - started.pop()) * 1000

    for _ in range(WARM_UP_PASSES):
        network(images.clone())  # it may write into its input
    for path in paths:
        module = network.get_submodule(path)
        module.register_forward_pre_hook(lambda *_: started.append(time.perf_counter()))
        module.register_forward_hook(lambda *_, path=path: stop(path))
    with visiting() as waited:
        for _ in range(repeats):
            passes.append(defaultdict(float))
            fresh = images.clone()
            started.append(time.perf_counter())
            network(fresh)
            stop("")
            passes[-1][""] -= sum(passes[-1][path] for path in paths)
        return passes, waited()
