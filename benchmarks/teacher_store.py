"""Time of a distilled step against a scratch step: the teacher run, its outputs read from a full store, or given.

    python benchmarks/teacher_store.py [--networks wrn-16-1 wrn-40-2] [--blocks S "G(4)"] [--method at] [--rounds 5]

One process and thread, ``precision: auto``, images of noise, the training loop as a node runs it, without evaluation.
Each round trains an epoch of ``--steps`` steps in each of the four ways, in an order that turns from round to round.
Figures are medians over rounds of the ratio to that round's scratch epoch, with their range. Seconds are of the CPU
(``time.process_time``), so that another process beside it disturbs little. *given* has the outputs in memory: what it
costs above scratch is the loss alone, what *store* costs above it is reading.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.training import Runtime, Training
from moonshine.data.store import Dataset, Split
from moonshine.distillation.objective import distillation
from moonshine.distillation.outputs import MapOf, Needs, Outputs, TeacherOutputs
from moonshine.distillation.teacher_store.store import Schedule, Store
from moonshine.distillation.term import Pair
from moonshine.structures.build import build
from moonshine.training.execution import resolve
from moonshine.training.objective import Batch, Objective
from moonshine.training.train import train

BLOCKS = ("S", "G(4)", "G(N)", "B(2)", "BG(2,M)")
METHODS: dict[str, dict[str, Any]] = {
    "kd": {"kd": {"form": "textbook", "temperature": 4.0, "alpha": 0.9}},
    "at": {"at": {"form": "resolution-free", "beta": 1000.0}},
}
WAYS = ("scratch", "teacher", "store", "given")


class InMemory:
    """Stands in for a store: computes each step once and keeps the tensors."""

    def __init__(self, kept: Needs) -> None:
        self.kept = kept
        self._found: dict[int, Outputs] = {}

    @contextmanager
    def through(self, compute: TeacherOutputs) -> Iterator[TeacherOutputs]:
        def outputs(batch: Batch, needs: Needs) -> Outputs:
            if batch.step not in self._found:
                self._found[batch.step] = compute(batch, needs)
            return self._found[batch.step]

        yield outputs


def ways(
    network: str, block: str, method: str, steps: int, batch: int, folder: Path, held: ExitStack
) -> dict[str, Callable[[], float]]:
    """A function for each way, which trains an epoch and returns its CPU seconds."""
    execution = resolve(Runtime(threads=1, device="cpu", channels_last="auto", compile=False), "auto")
    recipe = Training.model_validate(
        {
            "epochs": 1,
            "batch_size": batch,
            "optimizer": {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False},
            "schedule": {"kind": "one-cycle", "warmup": 0.3, "start": 0.1, "end": 0.01},
            "precision": "auto",
        }
    )
    images = torch.randint(256, (steps * batch, 3, 32, 32), dtype=torch.uint8)
    split = Split(images, torch.randint(10, (steps * batch,)))
    dataset = Dataset("noise", split, None, split, (0.5,) * 3, (0.25,) * 3, 10, tuple("abcdefghij"))
    teacher = build(network, "S")
    kept = Needs(logits=method == "kd", maps=tuple(map(MapOf, teacher.taps)) if method == "at" else ())
    stores = {
        "teacher": None,
        "store": Store(folder, 10**12, Schedule("noise", "here", kept, 1, steps), ()),
        "given": cast(Store, InMemory(kept)),
    }

    def of(way: str) -> Callable[[], float]:
        student = build(network, block)
        objective = Objective()
        if way != "scratch":
            pair = Pair(student, teacher, teacher.taps, (3, 32, 32))
            loss = Method.model_validate(METHODS[method])
            objective = held.enter_context(distillation(pair, loss, 1, execution, store=stores[way]))

        def epoch() -> float:
            start = time.process_time()
            train(student, objective, dataset, recipe, Augment(crop_padding=4, flip=True), execution, seed=0)
            return time.process_time() - start

        return epoch

    return {way: of(way) for way in WAYS}


def compare(
    network: str, block: str, method: str, rounds: int, steps: int, batch: int
) -> dict[str, list[float]]:
    """Ratios to the scratch epoch of each round, sorted, by way."""
    found: dict[str, list[float]] = {way: [] for way in WAYS[1:]}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as held:
        epochs = ways(network, block, method, steps, batch, Path(folder), held)
        for epoch in epochs.values():  # warm up, and fill the store
            epoch()
        for turn in range(rounds):
            order = WAYS[turn % len(WAYS) :] + WAYS[: turn % len(WAYS)]
            seconds = {way: epochs[way]() for way in order}
            for way, ratios in found.items():
                ratios.append(seconds[way] / seconds["scratch"])
    return {way: sorted(ratios) for way, ratios in found.items()}


def main() -> None:
    """Print a row per network and block."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=["wrn-16-1", "wrn-40-2"])
    parser.add_argument("--blocks", nargs="+", default=list(BLOCKS))
    parser.add_argument("--method", choices=list(METHODS), default="at")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, CPU capability {torch.backends.cpu.get_cpu_capability()}, {options.method}, "
          f"batches of {options.batch}; times of a scratch step, with their range")  # fmt: skip
    print(f"{'network':<10}{'block':<10}" + "".join(f"{way:<22}" for way in WAYS[1:]))
    for network in options.networks:
        for block in options.blocks:
            found = compare(network, block, options.method, options.rounds, options.steps, options.batch)
            cells = [
                f"{statistics.median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})" for each in found.values()
            ]
            print(f"{network:<10}{block:<10}" + "".join(f"{cell:<22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
