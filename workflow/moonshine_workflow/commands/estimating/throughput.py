"""Throughput of a device: training steps timed on noise, or read from a file."""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import torch

from moonshine.config import Study
from moonshine.costs.latency import RELIABLE, visiting
from moonshine.data.store import Dataset, Split
from moonshine.datasets.kind import DatasetSize
from moonshine.distillation.objective import distillation
from moonshine.distillation.term import Pair
from moonshine.errors import MoonshineError
from moonshine.json_model import JsonModel
from moonshine.structures.build import from_structure
from moonshine.training.epoch import input_shape
from moonshine.training.execution import Execution, resolve
from moonshine.training.history import Observer
from moonshine.training.labels import label_loss
from moonshine.training.objective import Objective
from moonshine.training.train import train
from moonshine_workflow.commands.estimating.steps import Steps, TimedStep, distinct
from moonshine_workflow.graph.stage import machine

_TIMED_STEPS = {"cuda": 20, "cpu": 4}
"""Batches that a step is timed on, after `_WARM_UP` batches that are not counted."""
_WARM_UP = 2
LEAST_SECONDS = 1.0
"""Least time for which these batches are repeated, since the time of a step varies."""


class Throughput(JsonModel):
    """Seconds per image by the key of a step, and what they were measured on."""

    measured_on: str
    steps: dict[str, float]


def read_throughput(path: Path, steps: Steps) -> Throughput:
    """Read a file that ``--save`` wrote; raises MoonshineError if it is damaged or lacks some of the steps."""
    found = Throughput.read(path)
    keys = list(distinct(steps))
    if lacking := [key for key in keys if not found.steps.get(key, 0) > 0]:
        raise MoonshineError(
            f"{path}: lacks {len(lacking)} of {len(keys)} measurements, such as {lacking[0]}; allowed: a file "
            "that `moonshine estimate STUDY --save FILE` wrote for this study"
        )
    return found


def measure_steps(study: Study, size: DatasetSize, steps: Steps) -> Throughput:
    """Time each distinct step on the study's device; says on stderr where other processes used the CPU meanwhile."""
    execution = resolve(study.runtime, study.training.precision)
    on_gpu = execution.device.type == "cuda"
    batches = _WARM_UP + _TIMED_STEPS[execution.device.type]
    wanted = distinct(steps)
    times = {}
    for position, (key, step) in enumerate(wanted.items(), 1):
        noise = _noise(study, size, batches * step.recipe.batch_size)
        with visiting() as waiting:
            times[key] = _seconds_per_image(study, noise, execution, step)
            waited = 0.0 if on_gpu else waiting()
        busy = f", but it waited for the CPU {waited:.0%} of the time" if waited > RELIABLE else ""
        print(f"{position}/{len(wanted)}: {key}: {1 / times[key]:,.1f} images/s{busy}", file=sys.stderr)
    name = torch.cuda.get_device_name(execution.device) if on_gpu else machine()["processor"]
    dtype = str(execution.dtype).removeprefix("torch.")
    measured_on = f"{name}, threads: {study.runtime.threads}, {dtype}, torch {torch.__version__}"
    return Throughput(measured_on=measured_on, steps=times)


def _seconds_per_image(study: Study, noise: Dataset, execution: Execution, step: TimedStep) -> float:
    """Time the training loop with augmentation, autocast and optimiser; return the median over epochs."""
    network = from_structure(step.structure, study.trusted)
    labels = label_loss(step.recipe, noise.class_shares)
    one_epoch = step.recipe.model_copy(update={"epochs": 1})
    # the processes that decode images during training flip them too
    augment = study.augment.model_copy(update={"flip": False}) if study.data.is_encoded else study.augment
    start, clock = time.perf_counter(), _Clock(execution.device)
    with ExitStack() as stack:
        objective = Objective(labels)
        if step.method and step.teacher:
            teacher = from_structure(step.teacher, study.trusted)
            pair = Pair(network, teacher, step.teacher.taps, input_shape(noise, augment))
            # the first epoch is timed, which is one of pretraining if the terms have that
            epochs = 1 + sum(term.pretraining for term in step.method.terms.values())
            objective = stack.enter_context(distillation(pair, step.method, epochs, execution, labels))
        while time.perf_counter() < start + LEAST_SECONDS or not clock.epochs:
            try:
                train(network, objective, noise, one_epoch, augment, execution, seed=0, observer=clock)
            except torch.OutOfMemoryError:
                raise MoonshineError(
                    f"{step.key}: does not fit in the device's memory; allowed: a smaller training.batch_size"
                ) from None
    return statistics.median(clock.epochs) / one_epoch.batch_size


class _Clock(Observer):
    """Mean seconds of a step in each epoch, without its warm-up."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = 0.0
        self.epochs: list[float] = []

    def batch(self, done: int, total: int) -> None:
        if done not in (_WARM_UP, total):
            return
        if self._device.type == "cuda":  # whose work is queued
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        if done == total:
            self.epochs.append((now - self._start) / (total - _WARM_UP))
        self._start = now


def _noise(study: Study, size: DatasetSize, count: int) -> Dataset:
    """Return ``count`` images of noise in the study's shape, with a label for each image or pixel."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, *size.shape), generator=random, dtype=torch.uint8)
    dense, dtype = (size.shape[1:], torch.uint8) if study.data.is_dense else ((), torch.int64)
    split = Split(images, torch.randint(size.classes, (count, *dense), generator=random, dtype=dtype))
    return Dataset(
        name="noise",
        train=split,
        validation=None,
        test=split,
        mean=(0.5,) * size.shape[0],
        std=(0.25,) * size.shape[0],
        num_classes=size.classes,
        class_names=tuple(map(str, range(size.classes))),
        class_shares=(1 / size.classes,) * size.classes,
    )
