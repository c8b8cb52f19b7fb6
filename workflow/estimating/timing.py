"""Timing real training steps and real evaluation on noise, on the device that trains."""

from __future__ import annotations

import platform
import re
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from moonshine.config import Study
from moonshine.data import Dataset, Split
from moonshine.distillation.distil import distillation
from moonshine.errors import MoonshineError
from moonshine.networks.build import from_structure
from moonshine.training.evaluation import evaluate
from moonshine.training.execution import Execution
from moonshine.training.labels import LabelLoss, class_weights
from moonshine.training.train import Loss, Observer, train
from workflow.estimating.data import Facts
from workflow.estimating.works import EVALUATION, Case

WARM_UP = 2
"""Steps before the first one that counts."""

LEAST_SECONDS = 1.0
"""The batches are gone through again until so much was timed: steps of milliseconds vary."""

CPU_MODEL = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


@dataclass(frozen=True, eq=False)
class Bench:
    """Where steps are timed, and on what: ``batches`` of ``batch_size`` images of noise, decoded already."""

    study: Study
    facts: Facts
    execution: Execution
    batch_size: int
    batches: int

    @cached_property
    def noise(self) -> Dataset:
        """Images as large as the study's, with a label for each or for every pixel, as it has."""
        facts, dense = self.facts, self.study.is_dense
        generator = torch.Generator().manual_seed(0)
        count = (WARM_UP + self.batches) * self.batch_size
        images = torch.randint(256, (count, *facts.shape), generator=generator, dtype=torch.uint8)
        labelled = (count, *facts.shape[1:]) if dense else (count,)
        labels = torch.randint(facts.classes, labelled, generator=generator)
        split = Split(images, labels.to(torch.uint8) if dense else labels)
        return Dataset(
            name="noise",
            train=split,
            validation=None,
            test=split,
            mean=(0.5,) * facts.shape[0],
            std=(0.25,) * facts.shape[0],
            num_classes=facts.classes,
            class_names=tuple(map(str, range(facts.classes))),
            class_shares=(1 / facts.classes,) * facts.classes,
        )

    @property
    def bytes(self) -> int:
        """Those of the noise."""
        split = self.noise.train
        assert isinstance(split, Split)
        return split.images.nbytes + split.labels.nbytes


def time_case(bench: Bench, case: Case) -> dict[str, Any]:
    """``seconds_per_image``, and on a GPU ``peak_bytes``: the most memory that torch held, prepared data left out.

    Of training it is the median step after the first ones: the loop's own, with augmentation, autocast and the
    optimiser; of evaluation the mean over all images. At least `LEAST_SECONDS` are timed. MoonshineError where the
    device has too little memory.
    """
    device = bench.execution.device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        seconds = _evaluation(bench, case) if case.work.loss == EVALUATION else _training(bench, case)
    except torch.OutOfMemoryError:
        raise MoonshineError(
            f"{case.work.network} ({case.work.loss}): {bench.batch_size} images of "
            f"{'x'.join(map(str, case.work.input_shape))} at once do not fit in the memory of {device_name(device)}; "
            "allowed: a smaller training.batch_size, or --measure-batch to time fewer"
        ) from None
    peak = None
    if device.type == "cuda":
        # training has all its images on the device, evaluation a batch at a time
        there = 0 if case.work.loss == EVALUATION else bench.bytes
        peak = torch.cuda.max_memory_reserved(device) - there
    return {"seconds_per_image": seconds, "peak_bytes": peak}


def device_name(device: torch.device) -> str:
    """The model of a GPU, or of the CPU as far as the system says it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        found = CPU_MODEL.search(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _training(bench: Bench, case: Case) -> float:
    study, execution = bench.study, bench.execution
    network = from_structure(case.structure, study.trusted)
    weights = class_weights(study.training, bench.noise.class_shares)
    recipe = study.training.model_copy(update={"epochs": 1, "batch_size": bench.batch_size})
    # pictures that are decoded as they are needed are mirrored by the processes that decode them
    augment = study.augment.model_copy(update={"flip": False}) if study.is_encoded else study.augment
    seconds: list[float] = []
    with ExitStack() as held:
        loss: Loss = LabelLoss(weights)
        if case.method and case.teacher:
            teacher = from_structure(case.teacher, study.trusted)
            taps = case.structure["taps"]
            loss = held.enter_context(distillation(network, teacher, case.method, taps, execution, weights))
        while sum(seconds) < LEAST_SECONDS:
            watch = _Stopwatch(execution.device)
            train(network, loss, bench.noise, recipe, augment, execution, seed=0, observer=watch)
            seconds += watch.seconds()[WARM_UP - 1 :]
    return statistics.median(seconds) / bench.batch_size


def _evaluation(bench: Bench, case: Case) -> float:
    network, noise = from_structure(case.structure, bench.study.trusted), bench.noise
    assert isinstance(noise.test, Split)
    first = slice(bench.batch_size)
    evaluate(network, Split(noise.test.images[first], noise.test.labels[first]), noise, bench.execution)
    started, rounds, spent = time.perf_counter(), 0, 0.0
    while spent < LEAST_SECONDS:
        evaluate(network, noise.test, noise, bench.execution)
        rounds, spent = rounds + 1, time.perf_counter() - started
    return spent / rounds / len(noise.test)


class _Stopwatch(Observer):
    """Marks the end of every step; on a GPU in its own queue, so that it never waits for the mark."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[Any] = []

    def batch(self, done: int, total: int) -> None:
        if self._device.type != "cuda":
            self._marks.append(time.perf_counter())
            return
        mark = torch.cuda.Event(enable_timing=True)
        mark.record(torch.cuda.current_stream(self._device))
        self._marks.append(mark)

    def seconds(self) -> list[float]:
        """From each mark to the next."""
        pairs = zip(self._marks, self._marks[1:], strict=False)
        if self._device.type != "cuda":
            return [later - earlier for earlier, later in pairs]
        torch.cuda.synchronize(self._device)
        return [earlier.elapsed_time(later) / 1000 for earlier, later in pairs]
