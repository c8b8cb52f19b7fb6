"""Training throughput of our loop against a plain fp32 contiguous eager loop of the same network, in one process.

    python benchmarks/throughput.py [--threads 2] [--network wrn-40-2] [--pairs 5]
    python benchmarks/throughput.py --against ours-small-pages

Each pair times the two loops one after the other on the same images, and swaps their order from pair to pair; the
figure is the median of the pairs' ratios, with their range. The plain loop is what a textbook writes: contiguous
tensors, fp32, torch.optim.SGD. Ours is ``moonshine.training.execution.resolve`` with ``auto`` everywhere and our SGD.
glibc's allocator setting is process-wide, so each loop runs in a process of its own that waits while the other is
timed. *ours-small-pages* is our loop in a process that the kernel gives no huge pages. With ``--nodes 2`` ours is two
processes that share the threads, as the engines train: their images are added up.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.nn.functional as F

from moonshine.config.training import Optimizer, Runtime
from moonshine.structures.build import build
from moonshine.training.execution import resolve
from moonshine.training.updates.optimizer import make_optimizer

BLOCKS = ("S", "G(4)", "G(N)", "B(2)", "BG(2,M)")
Shape = tuple[int, int, int]
"""Images in a batch, height, width."""
PR_SET_THP_DISABLE = 41  # prctl(2)
SETTINGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False}


def plain(network_name: str, block: str, shape: Shape, runtime: Runtime, channel: Connection) -> None:
    """A textbook loop; times as many steps as it is told, again and again."""
    torch.set_num_threads(runtime.threads)
    network = build(network_name, block).train()
    optimizer = torch.optim.SGD(network.parameters(), **SETTINGS)  # type: ignore[arg-type]
    images, labels = example(network_name, shape)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    serve(step, channel)


def ours(network_name: str, block: str, shape: Shape, runtime: Runtime, channel: Connection) -> None:
    """The arithmetic of ``moonshine.training.train`` as it is resolved on this machine's CPU."""
    execution = resolve(runtime, "auto")
    network = execution.place(build(network_name, block)).train()
    optimizer = make_optimizer(network.parameters(), Optimizer.model_validate(SETTINGS))
    images, labels = example(network_name, shape)
    images = images.contiguous(memory_format=execution.memory_format)
    forward = torch.compile(network) if execution.compile else network

    def step() -> None:
        with execution.autocast():
            loss = F.cross_entropy(forward(images).float(), labels)
        loss.backward()
        optimizer.step(0.1)

    serve(step, channel)


def ours_small_pages(*arguments: Any) -> None:
    """Our loop as it is where transparent huge pages are off."""
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    ours(*arguments)


OTHERS = {"plain": plain, "ours-small-pages": ours_small_pages}


def example(network: str, shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of noise and labels, a map of them for a network that labels every pixel."""
    batch, height, width = shape
    labels = (batch, height, width) if network.startswith("erfnet") else (batch,)
    return torch.randn(batch, 3, height, width), torch.randint(10, labels)


def serve(step, channel: Connection) -> None:  # type: ignore[no-untyped-def]
    """Warm up, then time as many steps as the channel asks for, until it asks for None."""
    for _ in range(2):
        step()
    channel.send(None)
    while (steps := channel.recv()) is not None:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        channel.send(time.perf_counter() - start)


def compare(
    other: str, network: str, block: str, shape: Shape, runtime: Runtime, nodes: int, pairs: int, steps: int
) -> list[tuple[float, float]]:
    """(other, ours) in images per second, one tuple per pair; ours is the sum over ``nodes`` that share the threads."""
    context = multiprocessing.get_context("spawn")
    shared = runtime.model_copy(update={"threads": runtime.threads // nodes})
    sides: list[list[Connection]] = [[], []]
    for side, loop, settings in ((0, OTHERS[other], runtime), *[(1, ours, shared)] * nodes):
        here, there = context.Pipe()
        context.Process(target=loop, args=(network, block, shape, settings, there), daemon=True).start()
        here.recv()
        sides[side].append(here)
    results = []
    for pair in range(pairs):
        found = [0.0, 0.0]
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            for end in sides[which]:
                end.send(steps)
            found[which] = sum(shape[0] * steps / end.recv() for end in sides[which])
        results.append((found[0], found[1]))
    for end in itertools.chain(*sides):
        end.send(None)
    return results


def main() -> None:
    """Print a table of both loops' throughput and their ratio, a row per block."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", choices=list(OTHERS), default="plain")
    parser.add_argument("--network", default="wrn-40-2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, nargs=2, default=[32, 32], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--blocks", nargs="+", default=list(BLOCKS))
    parser.add_argument("--compile", action="store_true", help="ours with runtime.compile")
    parser.add_argument("--nodes", type=int, default=1, help="ours as so many nodes that share the threads")
    options = parser.parse_args()
    runtime = Runtime(threads=options.threads, device="cpu", channels_last="auto", compile=options.compile)
    execution = resolve(runtime, "auto")
    print(f"torch {torch.__version__}, {options.threads} threads, CPU capability "
          f"{torch.backends.cpu.get_cpu_capability()}, ours in {execution.dtype}, {options.network} at "
          f"{options.size[0]}x{options.size[1]}, batch "
          f"{options.batch}{', compiled' if options.compile else ''}, nodes of ours: {options.nodes}")  # fmt: skip
    print(f"{'block':<10}{options.against + ' img/s':>22}{'ours img/s':>12}{'ratio':>8}   range")
    for block in options.blocks:
        shape = (options.batch, *options.size)
        pairs = compare(
            options.against,
            options.network,
            block,
            shape,
            runtime,
            options.nodes,
            options.pairs,
            options.steps,
        )
        ratios = sorted(fast / slow for slow, fast in pairs)
        medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
        print(f"{block:<10}{medians[0]:>22.1f}{medians[1]:>12.1f}{statistics.median(ratios):>8.2f}"
              f"   {ratios[0]:.2f} to {ratios[-1]:.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
