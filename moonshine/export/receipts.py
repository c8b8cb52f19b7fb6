"""What each exported file does in its own runtime, next to the PyTorch network that it was made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from moonshine.data import AnySplit, batches, inputs
from moonshine.errors import MoonshineError
from moonshine.export.runtimes import Floats, open_file
from moonshine.files import sha256
from moonshine.formats.about import About
from moonshine.formats.formats import FORMATS, INT8
from moonshine.formats.graphs import first_line
from moonshine.formats.quiet import quiet

BATCH = 100
POINTS = 0.1
"""What a float file's test error may move by, in points, or by one image where that is more."""


@dataclass(frozen=True)
class Receipt:
    """One file; ``max_logit_difference`` and ``error_pct`` are over all ``examples`` of the test set."""

    format: str
    file: str
    bytes: int
    sha256: str
    max_logit_difference: float  # from the PyTorch network's logits, absolute
    error_pct: float
    examples: int


@dataclass(frozen=True)
class Exported:
    """The receipts of one export, and the test error of the PyTorch network on the same images."""

    error_pct: float
    examples: int
    receipts: tuple[Receipt, ...]

    def drop(self, format: str) -> float:
        """By how many points the test error of a format's file is larger than the network's."""
        return (
            next(receipt.error_pct for receipt in self.receipts if receipt.format == format) - self.error_pct
        )


def write_receipts(
    network: nn.Module, folder: Path, about: About, test: AnySplit, formats: Iterable[str], threads: int
) -> Exported:
    """Runs every file of ``folder`` on the whole test split (uint8 images) and compares it with the network.

    ``network`` takes normalised images; the normalisation used here is that of training, not the files' own.
    Deterministic on one machine with one number of threads. MoonshineError for a file that its runtime cannot run.
    """
    labels = test.labels.numpy()
    reference = _reference(network, about, test, threads)
    receipts = []
    for format in formats:
        path = folder / FORMATS[format]
        logits = _logits(format, path, test, threads)
        receipts.append(
            Receipt(
                format=format,
                file=path.name,
                bytes=path.stat().st_size,
                sha256=sha256(path),
                max_logit_difference=float(np.abs(logits - reference).max()),
                error_pct=_error(logits, labels),
                examples=len(test),
            )
        )
    return Exported(_error(reference, labels), len(test), tuple(receipts))


def verify(exported: Exported, tolerance: float) -> None:
    """MoonshineError unless every float file is the network: its logits and its test error.

    Logits may differ by ``tolerance``, the error by 0.1 points or one image, whichever is more. INT8 may differ.
    """
    allowed = max(POINTS, 100 / exported.examples)
    problems = []
    for receipt in exported.receipts:
        if receipt.format == INT8:
            continue
        if not receipt.max_logit_difference <= tolerance:  # NaN is no agreement
            problems.append(
                f"{receipt.file}: its logits differ from the network's by {receipt.max_logit_difference:.3g}; "
                f"allowed: {tolerance:g}"
            )
        moved = receipt.error_pct - exported.error_pct
        if abs(moved) > allowed + 1e-9:
            problems.append(
                f"{receipt.file}: its test error is {receipt.error_pct:.2f} %, the network's "
                f"{exported.error_pct:.2f} %; allowed: {allowed:.2g} points more or less"
            )
    if problems:
        raise MoonshineError("; ".join(problems))


def _reference(network: nn.Module, about: About, test: AnySplit, workers: int) -> Floats:
    found = []
    with torch.inference_mode():
        for images, _ in batches(
            test,
            batch_size=BATCH,
            seed=0,
            epoch=0,
            augment=None,
            mean=about.mean,
            std=about.std,
            device="cpu",
            shuffle=False,
            channels_last=True,
            workers=workers,
        ):
            found.append(network(images).numpy())
    return np.concatenate(found)


def _logits(format: str, path: Path, test: AnySplit, threads: int) -> Floats:
    try:
        with quiet():
            run = open_file(path, threads)
            chosen = torch.arange(len(test)).split(BATCH)
            pixels = inputs(test, chosen, workers=threads)
            return np.concatenate([run((images.float() / 255).numpy()) for images in pixels])
    except MoonshineError:
        raise
    except Exception as error:  # the runtimes' exceptions have no common base
        raise MoonshineError(f"{format}: {path.name} cannot be run: {first_line(error)}") from error


def _error(logits: Floats, labels: np.ndarray) -> float:
    return 100 * int((logits.argmax(1) != labels).sum()) / len(labels)
