"""Training throughput of two processes with one thread each against one process with two, on CPUs.

    python benchmarks/processes.py [--network wrn-16-2] [--batch 128] [--pairs 3] [--steps 4]

The two are timed one after the other on batches of the same size, in turns that swap their order; the figure is the
median of the pairs' ratios, with their range. Two processes are gloo's, with the wrapper that training puts around a
network. Images are noise: neither their values nor augmentation matter for the ratio.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import time
from multiprocessing.connection import Connection

import torch

from moonshine.config.training import Optimizer, Runtime
from moonshine.structures.build import build
from moonshine.training.execution import resolve
from moonshine.training.objective import Batch, Objective, Together
from moonshine.training.processes import Processes, together
from moonshine.training.updates.optimizer import make_optimizer

SETTINGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False}


def worker(rank: int, count: int, port: int, network: str, batch: int, channel: Connection) -> None:
    """Train its part of every batch; the first process answers with seconds."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count)}
    runtime = Runtime(threads=2 // count, device="cpu", channels_last="auto", compile=False)
    execution, processes = resolve(runtime, "auto"), Processes(rank, count)
    with together(processes, execution.device):
        student = execution.place(build(network)).train()
        optimizer = make_optimizer(student.parameters(), Optimizer.model_validate(SETTINGS))
        wrapped = processes.wrap(Together(student, Objective()), execution)
        images = torch.randn(batch // count, 3, 32, 32).contiguous(memory_format=execution.memory_format)
        labels = torch.randint(10, (batch // count,))
        for steps in iter(channel.recv, None):
            start = time.perf_counter()
            for _ in range(steps):
                with execution.autocast():
                    _, terms = wrapped(Batch(images, labels, 0, 0))
                terms["ce"].backward()
                optimizer.step(0.1)
            channel.send(time.perf_counter() - start)


def start(count: int, network: str, batch: int) -> list[Connection]:
    """So many processes, warmed up; the ends of their channels."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    ends = []
    for rank in range(count):
        here, there = context.Pipe()
        context.Process(target=worker, args=(rank, count, port, network, batch, there), daemon=True).start()
        ends.append(here)
    seconds(ends, 2)
    return ends


def seconds(ends: list[Connection], steps: int) -> float:
    """How long the processes take for so many steps."""
    for end in ends:
        end.send(steps)
    return max(end.recv() for end in ends)


def main() -> None:
    """Print images per second of both and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="wrn-16-2")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    sides = [start(count, options.network, options.batch) for count in (1, 2)]
    rates: list[list[float]] = [[], []]
    for pair in range(options.pairs):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            images = options.batch * options.steps
            rates[which].append(images / seconds(sides[which], options.steps))
    for ends in sides:
        for end in ends:
            end.send(None)
    ratios = sorted(two / one for one, two in zip(*rates, strict=True))
    one, two = (statistics.median(side) for side in rates)
    print(f"{options.network}, batch {options.batch}, torch {torch.__version__}")
    print(f"one process, two threads     {one:8.1f} images/s")
    print(f"two processes, a thread each {two:8.1f} images/s")
    print(f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
