"""Time of a distilled step against a scratch step: the teacher run, its outputs read from a full store, or given.

    python benchmarks/teacher_store.py [--networks wrn-16-1 wrn-40-2] [--blocks S "G(4)"] [--method at] [--rounds 5]
    python benchmarks/teacher_store.py --device cuda --compile --fastest

One process and thread, ``precision: auto``, images of noise, the training loop as a node runs it, without evaluation.
Each round trains an epoch of ``--steps`` steps in each of the ways, in an order that turns from round to round.
Figures are medians over rounds of the ratio to that round's scratch epoch, with their range. Seconds are the CPU's
(``time.process_time``), so that another process beside it disturbs little; on a GPU they are the clock's. *given* has
the outputs in memory: what it costs above scratch is the loss alone, what *store* costs above it is reading. *plain* is
AT as a textbook writes it: fp32, contiguous, the teacher run, ``torch.optim.SGD``, images of one batch that lie ready.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

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
WAYS = ("scratch", "plain", "teacher", "store", "given")


class InMemory:
    """Stands in for a store: computes each step once and keeps the tensors."""

    def __init__(self, kept: Needs) -> None:
        self.kept = kept
        self._found: dict[int, Outputs] = {}

    @contextmanager
    def cached(self, compute: TeacherOutputs) -> Iterator[TeacherOutputs]:
        def outputs(batch: Batch, needs: Needs) -> Outputs:
            if batch.step not in self._found:
                self._found[batch.step] = compute(batch, needs)
            return self._found[batch.step]

        yield outputs


def seconds_of(epoch: Callable[[], object], device: torch.device) -> float:
    """Seconds that an epoch takes: of the CPU, or on a GPU by the clock."""
    clock = time.process_time
    if device.type == "cuda":
        clock = time.perf_counter
        torch.cuda.synchronize()
    start = clock()
    epoch()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def plain(student: Any, teacher: Any, images: Tensor, labels: Tensor, steps: int) -> Callable[[], None]:
    """An epoch of attention transfer in the released form, with nothing done for speed."""
    student.train()
    teacher.eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)

    def maps(network: Any) -> list[Tensor]:
        found: list[Tensor] = []
        for tap in network.taps:
            network.get_submodule(tap).register_forward_hook(lambda _, inputs, output: found.append(output))
        return found

    ours, theirs = maps(student), maps(teacher)

    def epoch() -> None:
        for _ in range(steps):
            ours.clear()
            theirs.clear()
            loss = F.cross_entropy(student(images), labels)
            with torch.no_grad():
                teacher(images)
            for one, other in zip(ours, theirs, strict=True):
                both = [F.normalize(each.square().mean(1).flatten(1)) for each in (one, other)]
                loss = loss + 1000 * (both[0] - both[1]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def ways(
    network: str, block: str, method: str, steps: int, batch: int, runtime: Runtime, held: ExitStack
) -> dict[str, Callable[[], float]]:
    """A function for each way, which trains an epoch and returns its seconds."""
    execution = resolve(runtime, "auto")
    folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
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

        crops = Augment(crop_padding=4, flip=True)
        epoch = partial(train, student, objective, dataset, recipe, crops, execution, seed=0)
        return partial(seconds_of, epoch, execution.device)

    textbook, theirs = (build(network, each).to(execution.device) for each in (block, "S"))
    noise = torch.randn(batch, 3, 32, 32, device=execution.device)
    labels = torch.randint(10, (batch,), device=execution.device)
    found = {way: of(way) for way in WAYS if way != "plain"}
    found["plain"] = partial(seconds_of, plain(textbook, theirs, noise, labels, steps), execution.device)
    return found


def compare(
    network: str, block: str, method: str, rounds: int, steps: int, batch: int, runtime: Runtime
) -> dict[str, list[float]]:
    """Images per second from scratch, and the other ways' ratios to the scratch epoch of each round; sorted."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with ExitStack() as held:
        epochs = ways(network, block, method, steps, batch, runtime, held)
        for epoch in epochs.values():  # warm up, and fill the store
            epoch()
        for turn in range(rounds):
            order = WAYS[turn % len(WAYS) :] + WAYS[: turn % len(WAYS)]
            seconds = {way: epochs[way]() for way in order}
            for way, ratios in found.items():
                scratch = seconds["scratch"]
                ratios.append(steps * batch / scratch if way == "scratch" else seconds[way] / scratch)
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
    parser.add_argument("--device", default="cpu", help="as runtime.device")
    parser.add_argument("--compile", action="store_true", help="runtime.compile: true")
    parser.add_argument("--fastest", action="store_true", help="runtime.deterministic: false")
    options = parser.parse_args()
    runtime = Runtime(
        threads=1,
        device=options.device,
        channels_last="auto",
        compile=options.compile,
        deterministic=not options.fastest,
    )
    print(
        f"{runtime.model_dump_json(exclude_defaults=True)}; torch {torch.__version__}, CPU capability "
        f"{torch.backends.cpu.get_cpu_capability()}, {options.method}, batches of {options.batch}; scratch in "
        "images/s, the others in times of its step, with their range"
    )
    print(f"{'network':<10}{'block':<10}" + "".join(f"{way:<22}" for way in WAYS))
    for network in options.networks:
        for block in options.blocks:
            found = compare(
                network, block, options.method, options.rounds, options.steps, options.batch, runtime
            )
            cells = [
                f"{statistics.median(each):.4g} ({each[0]:.4g} to {each[-1]:.4g})" for each in found.values()
            ]
            print(f"{network:<10}{block:<10}" + "".join(f"{cell:<22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
