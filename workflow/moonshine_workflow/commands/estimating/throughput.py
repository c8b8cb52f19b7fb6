"""Throughput of a device in the steps of a study: timed here on noise and cached, or read from a file."""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, ValidationError

from moonshine.config import Study
from moonshine.costs.cache import remembered
from moonshine.costs.latency import RELIABLE, visiting
from moonshine.data import Dataset, Split
from moonshine.distillation.objective import distillation
from moonshine.distillation.term import Pair
from moonshine.errors import MoonshineError
from moonshine.fields import NonNegative, Positive, Section, Whole
from moonshine.files import read_json
from moonshine.structures.build import from_structure
from moonshine.training.evaluation import evaluate
from moonshine.training.execution import Execution, resolve
from moonshine.training.labels import class_weights
from moonshine.training.objective import Objective
from moonshine.training.train import Observer, input_shape, train
from moonshine_workflow.commands.estimating.dataset_size import DatasetSize
from moonshine_workflow.commands.estimating.steps import TimedStep

BATCHES = {"cuda": 20, "cpu": 4}
"""Batches that a step is timed on, after `WARM_UP` that are not counted."""
WARM_UP = 2
LEAST_SECONDS = 1.0
"""The batches are repeated for so long: a step takes milliseconds, and its time varies."""


class StepTime(Section):
    """Time of a step; ``waited`` is the share of it that others had the CPU (0 where a GPU computes).

    ``peak_bytes`` is the most GPU memory that torch held, images left out.
    """

    seconds_per_image: Positive
    waited: NonNegative
    peak_bytes: Annotated[int, Field(ge=1)] | None


class Throughput(Section):
    """Times of steps, by their keys, and what they were measured on."""

    device: str
    dtype: str
    threads: Whole
    channels_last: bool
    compile: bool
    torch: str
    steps: dict[str, StepTime]


def read_throughput(path: Path, steps: Sequence[TimedStep]) -> Throughput:
    """Read what ``--save`` wrote; MoonshineError where it is damaged or lacks some of the steps."""
    allowed = "allowed: what `moonshine estimate STUDY --save FILE` writes of this study"
    try:
        found = Throughput.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise MoonshineError(f"{path}: {key}: {first['msg']}, found {first['input']!r}; {allowed}") from None
    if lacking := [step.key for step in steps if step.key not in found.steps]:
        raise MoonshineError(
            f"{path}: lacks {len(lacking)} of {len(steps)} measurements, such as {lacking[0]}; {allowed}"
        )
    return found


def measure(study: Study, size: DatasetSize, steps: Sequence[TimedStep]) -> Throughput:
    """Time each step once on this machine's device, with progress on standard error.

    What was measured while the CPU was busy with other processes is used, and not cached.
    """
    execution = resolve(study.runtime, study.training.precision)
    about: dict[str, Any] = {
        "device": _device_name(execution.device),
        "dtype": str(execution.dtype).removeprefix("torch."),
        "threads": study.runtime.threads,
        "channels_last": execution.channels_last,
        "compile": execution.compile,
    }
    noise = _noise(study, size, (WARM_UP + BATCHES[execution.device.type]) * study.training.batch_size)
    times = {
        step.key: remembered(
            {"what": "time of a step", "step": step.key, **about},
            partial(_time, study, noise, execution, step, f"{position}/{len(steps)}"),
            worth_keeping=lambda found: found["waited"] <= RELIABLE,
        )
        for position, step in enumerate(steps, 1)
    }
    return Throughput.model_validate({**about, "torch": str(torch.__version__), "steps": times})


def _time(
    study: Study, noise: Dataset, execution: Execution, step: TimedStep, progress: str
) -> dict[str, Any]:
    """Return the fields of `StepTime`."""
    on_gpu = execution.device.type == "cuda"
    assert isinstance(noise.train, Split)
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(execution.device)
    try:
        with visiting() as waiting:
            seconds = (_training if step.is_training else _evaluation)(study, noise, execution, step)
            waited = 0.0 if on_gpu else waiting()
    except torch.OutOfMemoryError:
        raise MoonshineError(
            f"{step.key}: does not fit in the memory of {_device_name(execution.device)}; allowed: a smaller "
            "training.batch_size"
        ) from None
    peak = None
    if on_gpu:
        # in training all images are on the device, in evaluation a batch at a time
        images = noise.train.images.nbytes + noise.train.labels.nbytes if step.is_training else 0
        peak = torch.cuda.max_memory_reserved(execution.device) - images
    busy = f"; not cached: it waited for the CPU {waited:.0%} of the time" if waited > RELIABLE else ""
    print(f"{progress}: {step.key}: {1 / seconds:,.1f} images/s{busy}", file=sys.stderr)
    return {"seconds_per_image": seconds, "waited": waited, "peak_bytes": peak}


def _training(study: Study, noise: Dataset, execution: Execution, step: TimedStep) -> float:
    """Seconds per image of the training loop, with augmentation, autocast and optimiser: the median over its steps."""
    network = from_structure(step.structure, study.trusted)
    weights = class_weights(study.training, noise.class_shares)
    recipe = study.training.model_copy(update={"epochs": 1})
    # pictures that are decoded during training are flipped by the processes that decode them
    augment = study.augment.model_copy(update={"flip": False}) if study.data.is_encoded else study.augment
    start, clock = time.perf_counter(), _Clock(execution.device)
    with ExitStack() as stack:
        objective = Objective(weights)
        if step.method and step.teacher:
            teacher = from_structure(step.teacher, study.trusted)
            pair = Pair(network, teacher, step.teacher.taps, input_shape(noise, augment))
            # whose first epoch is timed, that of pretraining where the terms are for that
            epochs = 1 + sum(term.pretraining for term in step.method.terms.values())
            objective = stack.enter_context(distillation(pair, step.method, epochs, execution, weights))
        while time.perf_counter() < start + LEAST_SECONDS or not clock.steps:
            train(network, objective, noise, recipe, augment, execution, seed=0, observer=clock)
    return statistics.median(clock.steps) / recipe.batch_size


def _evaluation(study: Study, noise: Dataset, execution: Execution, step: TimedStep) -> float:
    """Seconds per image in eval mode, the median over passes, after a batch that is not counted."""
    network, test = from_structure(step.structure, study.trusted), noise.test
    assert isinstance(test, Split)
    first = slice(study.training.batch_size)
    evaluate(network, Split(test.images[first], test.labels[first]), noise, execution)
    passes: list[float] = []
    while sum(passes) < LEAST_SECONDS:
        start = time.perf_counter()
        evaluate(network, test, noise, execution)
        passes.append(time.perf_counter() - start)
    return statistics.median(passes) / len(test)


class _Clock(Observer):
    """Seconds of each step after the warm-up; on a GPU, which works ahead of the CPU, their mean over an epoch."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last = 0.0
        self.steps: list[float] = []

    def batch(self, done: int, total: int) -> None:
        counted = 1
        if self._device.type == "cuda":
            if done not in (WARM_UP, total):
                return
            torch.cuda.synchronize(self._device)
            counted = total - WARM_UP
        now = time.perf_counter()
        if done > WARM_UP:
            self.steps.append((now - self._last) / counted)
        self._last = now


def _noise(study: Study, size: DatasetSize, count: int) -> Dataset:
    """Return ``count`` images of noise like the study's, with a label for each or for every pixel."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, *size.shape), generator=random, dtype=torch.uint8)
    dense, dtype = (size.shape[1:], torch.uint8) if study.data.is_dense else ((), torch.int64)
    labels = torch.randint(size.classes, (count, *dense), generator=random, dtype=dtype)
    split = Split(images, labels)
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


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
