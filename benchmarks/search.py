"""Seconds that a search for mixed blocks takes: WRN-40-2 at 3x32x32, the paper's 21 blocks, 200k parameters.

    python benchmarks/search.py [--candidates 50] [--threads 2] [--compare]

With fewer than 1,000 candidates a part of the search is measured and the whole is extrapolated from its seconds per
potential, which is said. The weights' values do not matter for time, so images and labels are noise. ``--compare``
times the ways to compute one potential beside one another in this process, on the same networks, in turns: the memory
layouts and gradients of weights; and building a network at once or on the meta device first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F

from moonshine.blocks.initialisation import initialise
from moonshine.blocks.registry import PAPER
from moonshine.config.networks import Mixed
from moonshine.config.training import Runtime
from moonshine.costs.budgets import parse_budget
from moonshine.search.fisher import fisher_potential
from moonshine.search.place_costs import place_costs
from moonshine.search.sampling import sample
from moonshine.search.search import search
from moonshine.search.space import Mixture, Space
from moonshine.structures.describe import places_of
from moonshine.training.execution import resolve
from moonshine_workflow.students.mixing import scored_on

SHAPE = (3, 32, 32)
WHOLE = 1000
BEST = 50
INITIALISATIONS = 5


def measure_search(space: Space, candidates: int, best: int, threads: int) -> None:
    """Time a whole search, or a part of one, and say what the whole takes."""
    mixed = Mixed.model_validate(
        {"budget": "200k params", "candidates": candidates, "best": best, "initialisations": INITIALISATIONS}
    )
    images, labels = batch(scored_on(mixed, SHAPE))
    computed: list[float] = []
    start = time.perf_counter()
    known = place_costs(space)
    measured, used = time.perf_counter(), time.process_time()
    found = search(
        space, mixed, images, labels, known=known, progress=lambda *_: computed.append(time.perf_counter())
    )
    end, used = time.perf_counter(), time.process_time() - used
    gaps = [after - before for before, after in pairwise(computed)]
    each = statistics.median(gaps)
    print(
        f"{len(known.table)} places, {len(space.blocks)} blocks, 10^{found.log10_networks:.1f} networks in the window"
    )
    print(f"costs of every choice     {measured - start:8.1f} s")
    print(
        f"search                    {end - measured:8.1f} s   {len(computed)} potentials, {threads} threads"
    )
    print(f"a potential               {each:8.3f} s   (median; {min(gaps):.3f} to {max(gaps):.3f})")
    whole = WHOLE + BEST * (INITIALISATIONS - 1)
    print(
        f"                          {used / len(computed):8.3f} s   of CPU (what a busy machine changes less)"
    )
    if candidates < WHOLE:
        scale = statistics.mean(gaps) * whole + (measured - start)
        print(f"extrapolated: {whole} potentials ({WHOLE} candidates, the best {BEST} at {INITIALISATIONS} "
              f"initialisations) take about {scale / 60:.1f} min")  # fmt: skip
    shown = ", ".join(f"{score} {value:+.2f}" for score, value in found.spearman.items() if value is not None)
    print(f"rank correlation of Fisher potential with {shown}")


def compare(space: Space, pairs: int) -> None:
    """Print the ways to compute a potential, as ratios to ours on the same networks."""
    known = place_costs(space)
    networks = sample(known, [parse_budget("200k params")], pairs, np.random.default_rng(0)).networks
    ways = {
        "ours": lambda blocks: ours(space.build(blocks), space),
        "contiguous": lambda blocks: contiguous(space.build(blocks), space),
        "with gradients of weights": lambda blocks: with_weights(space.build(blocks), space),
    }
    for way in ways.values():
        way(networks[0])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn, blocks in enumerate(networks):
        # each way comes first as often as any other
        for name in (list(ways) * 2)[turn % len(ways) :][: len(ways)]:
            start = time.perf_counter()
            ways[name](blocks)
            seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        ratios = sorted(other / mine for other, mine in zip(times, seconds["ours"], strict=True))
        print(f"{name:<26}{statistics.median(times):8.3f} s   {statistics.median(ratios):.2f} times ours"
              f"   ({ratios[0]:.2f} to {ratios[-1]:.2f})")  # fmt: skip
    built = {"built": space.build, "built on meta first": lambda blocks: on_meta(space, blocks)}
    for name, build in built.items():
        times = [timed(build, blocks) for blocks in networks]
        print(f"{name:<26}{statistics.median(times):8.3f} s   the network alone")


def timed(call: Callable[[Mixture], object], blocks: Mixture) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call(blocks)
    return time.perf_counter() - start


def batch(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of CIFAR's size in channels last, and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(number, *SHAPE, generator=generator).contiguous(memory_format=torch.channels_last)
    return images, torch.randint(10, (number,), generator=generator)


def ours(network: torch.nn.Module, space: Space) -> None:
    """Channels last, no gradients of weights."""
    fisher_potential(network.to(memory_format=torch.channels_last), *batch(64), space.places)


def contiguous(network: torch.nn.Module, space: Space) -> None:
    """The same in torch's default layout."""
    images, labels = batch(64)
    fisher_potential(network, images.contiguous(), labels, space.places)


def with_weights(network: torch.nn.Module, space: Space) -> None:
    """An ordinary backward pass, which is what the potential is usually read from."""
    images, labels = batch(64)
    network = network.to(memory_format=torch.channels_last).train()
    F.cross_entropy(network(images), labels).backward()


def on_meta(space: Space, blocks: Mixture) -> torch.nn.Module:
    """Built without memory, which is then taken and initialised once; the linear weight is left as it was."""
    with torch.device("meta"):
        network = space.build(blocks)
    network = network.to_empty(device="cpu")
    initialise(network)
    return network


def main() -> None:
    """Measure, or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=WHOLE)
    parser.add_argument("--best", type=int, default=None, help=f"default: {BEST} of {WHOLE}, in proportion")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--pairs", type=int, default=8)
    options = parser.parse_args()
    resolve(Runtime(threads=options.threads, device="cpu", channels_last="auto", compile=False), "fp32")
    space = Space(*places_of("wrn-40-2", {}, 10, SHAPE, PAPER), SHAPE)
    print(f"torch {torch.__version__}, {options.threads} threads, {torch.backends.cpu.get_cpu_capability()}")
    if options.compare:
        compare(space, options.pairs)
    else:
        best = options.best or max(1, BEST * options.candidates // WHOLE)
        measure_search(space, options.candidates, best, options.threads)


if __name__ == "__main__":
    main()
