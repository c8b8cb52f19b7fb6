"""Receipts: the size, accuracy and numerical agreement of each exported file, run in its own runtime."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from moonshine.data.batches import chunk_size, evaluation_images, normalise
from moonshine.data.store import AnySplit
from moonshine.errors import MoonshineError, first_line
from moonshine.files import sha256
from moonshine.formats.about import About
from moonshine.formats.format import FileRunner, Floats, Format, NotConverted
from moonshine.formats.formats import FORMATS, chosen_formats
from moonshine.formats.quiet import quiet
from moonshine.networks.models import Trust
from moonshine.networks.passes import memory_format
from moonshine.training.overlap import mean_iou, overlaps

_BATCH = 100
"""Batch size of a file for images of up to 64x64 pixels; larger images come in smaller batches."""
POINTS = 0.1
"""Largest change of the test error by a float file, in percentage points; one image if that is more."""


@dataclass(frozen=True)
class TflmReceipt:
    """Record of an INT8 file in TensorFlow Lite Micro, run on ``examples`` test images in ``arena_bytes`` of RAM."""

    error_pct: float
    examples: int
    max_steps_apart: int  # of its int8 logits from those of LiteRT's fast kernels
    arena_bytes: int
    activation_bytes: int  # of the arena
    interpreter_bytes: int  # of the arena: the interpreter's own data


@dataclass(frozen=True)
class Receipt:
    """Record of one file, run on all ``examples`` images of the test set.

    In semantic segmentation the error is 100 - mIoU. A file for microcontrollers has a receipt from there, or the
    reason why it has none.
    """

    format: str
    file: str
    bytes: int
    sha256: str
    max_logit_difference: float  # from the PyTorch network's logits, absolute
    error_pct: float
    examples: int
    tflm: TflmReceipt | str | None = None


@dataclass(frozen=True)
class Exported:
    """Receipts of an export, and the test error of the PyTorch network on the same images."""

    error_pct: float
    examples: int
    receipts: tuple[Receipt, ...]


def write_receipts(
    network: nn.Module, folder: Path, about: About, test: AnySplit, formats: Iterable[str], threads: int
) -> Exported:
    """Run every file of ``folder`` on the whole test split (uint8 images) and compare it with the network.

    ``network`` takes images normalised as in training, not by the files' own normalisation. Deterministic for one
    machine and number of threads. Raises `NotConverted` for a file that its runtime cannot run.
    """
    wanted = chosen_formats(formats)
    trust = about.trust
    runs = {format.name: _runnable(format, folder, threads, trust) for format in wanted}
    differences = dict.fromkeys(runs, np.float32(0))
    own = torch.zeros((), dtype=torch.int64)
    layout: torch.memory_format | None = None
    counts = dict.fromkeys(runs, own)
    with closing(_batches(about, test, threads)) as parts:
        for images, pixels, labels in parts:
            with torch.inference_mode():
                if layout is None:
                    layout = memory_format(network, images)
                reference = network(images.contiguous(memory_format=layout)).numpy()
            own = own + counts_of(reference, labels, about)
            for name, run in runs.items():
                logits = run(pixels)
                # np.maximum keeps NaN, max does not
                differences[name] = np.maximum(differences[name], np.abs(logits - reference).max())
                counts[name] = counts[name] + counts_of(logits, labels, about)
    receipts = [
        Receipt(
            format=format.name,
            file=format.file,
            bytes=(folder / format.file).stat().st_size,
            sha256=sha256(folder / format.file),
            max_logit_difference=float(differences[format.name]),
            error_pct=error_pct_of(counts[format.name], about),
            examples=len(test),
        )
        for format in wanted
    ]
    return Exported(error_pct_of(own, about), len(test), tuple(receipts))


def verify(exported: Exported, tolerance: float, dense: bool = False) -> None:
    """Raise `NotConverted` unless every float file agrees with the network in its logits and its test error.

    Logits may differ by ``tolerance``, the error by 0.1 percentage points or one image, whichever is more. In semantic
    segmentation (``dense``) only the logits count: a single pixel between two classes may be the only one of its class
    and change the mIoU by points. INT8 files may differ.
    """
    allowed = max(POINTS, 100 / exported.examples)
    problems = []
    for receipt in exported.receipts:
        if not FORMATS[receipt.format].is_exact:
            continue
        if not receipt.max_logit_difference <= tolerance:  # also catches NaN
            problems.append(
                f"{receipt.file}: its logits differ from the network's by {receipt.max_logit_difference:.3g}; "
                f"allowed: {tolerance:g}"
            )
        moved = receipt.error_pct - exported.error_pct
        if not dense and not abs(moved) <= allowed + 1e-9:
            problems.append(
                f"{receipt.file}: its test error is {receipt.error_pct:.2f} %, the network's "
                f"{exported.error_pct:.2f} %; allowed: a difference of {allowed:.2g} points"
            )
    if problems:
        raise NotConverted("; ".join(problems))


def _batches(about: About, test: AnySplit, workers: int) -> Generator[tuple[Tensor, Floats, Tensor]]:
    """Yield normalised images, the same images as pixels in [0, 1], and labels."""
    chosen = torch.arange(len(test)).split(chunk_size(_BATCH, *about.input_shape[1:]))
    with closing(evaluation_images(test, chosen, workers=workers)) as decoded:
        for indices, images in zip(chosen, decoded, strict=True):
            normalised = normalise(images, about.mean, about.std)
            yield (
                normalised,
                (images.float() / 255).numpy(),
                test.labels[indices].long(),
            )


def _runnable(format: Format, folder: Path, threads: int, trust: Trust) -> FileRunner:
    """Return a file's runner, with errors that name the file."""

    def attempt(work: Callable[..., Any], *given: Any) -> Any:
        try:
            with quiet():
                return work(*given)
        except MoonshineError:  # such as of a worker that died while decoding: already says what is wrong
            raise
        except Exception as error:  # the runtimes' exceptions have no common base
            raise NotConverted(f"{format.name}: {format.file} cannot be run: {first_line(error)}") from error

    return partial(attempt, attempt(format.open, folder / format.file, threads, trust))


def counts_of(logits: Floats, labels: Tensor, about: About) -> Tensor:
    """Return counts that add up over batches to an error: (2,) of images, or (2, classes) of pixels."""
    predicted = torch.from_numpy(logits.argmax(1))
    if about.scored_classes is None:
        return torch.tensor([int((predicted != labels).sum()), len(labels)])
    return torch.stack([part.sum(0) for part in overlaps(predicted, labels, about.scored_classes)])


def error_pct_of(counts: Tensor, about: About) -> float:
    """Return the error in percent from `counts_of`: the share of wrong images, or 100 - mIoU."""
    first, second = counts
    return 100 - float(mean_iou(first, second)) if about.is_dense else 100 * int(first) / int(second)
