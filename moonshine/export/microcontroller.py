"""Receipts from TensorFlow Lite Micro, the runtime of microcontrollers."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from moonshine.data.batches import evaluation_images
from moonshine.data.store import AnySplit
from moonshine.errors import MoonshineError
from moonshine.export.receipts import Exported, TflmReceipt, counts_of, error_pct_of
from moonshine.formats.about import About
from moonshine.formats.format import NotConverted
from moonshine.formats.tflite.int8 import TFLITE_INT8, Int8File, to_int8
from moonshine.formats.tflite.tflm import run_in_tflm, tflm_is_missing

QUICK = 1000
"""Largest test set that is run whole."""
SOME = 500
"""Images of a larger one, evenly spaced: its kernels are not made for this machine, and ten times as slow."""


def with_tflm(exported: Exported, folder: Path, about: About, test: AnySplit) -> Exported:
    """Return the receipts with one from TensorFlow Lite Micro, where there is a file for it.

    Where that is not installed, or refuses the file, the receipt holds the reason. `NotConverted` where its answers
    are not those of LiteRT's reference kernels, which define them.
    """
    receipts = tuple(
        replace(each, tflm=_tflm(folder / each.file, about, test))
        if each.format == TFLITE_INT8.name
        else each
        for each in exported.receipts
    )
    return replace(exported, receipts=receipts)


def _tflm(path: Path, about: About, test: AnySplit) -> TflmReceipt | str:
    if reason := tflm_is_missing():
        return reason
    count = len(test) if len(test) <= QUICK else SOME
    positions = torch.linspace(0, len(test) - 1, count).round().long()
    with closing(evaluation_images(test, [positions])) as decoded:
        images = to_int8((next(decoded).float() / 255).numpy())
    try:
        found, arena = run_in_tflm(path, images)
    except MoonshineError as error:
        return str(error)
    fast, reference = (Int8File.open(path, 1, reference=each) for each in (False, True))
    steps, from_fast = (np.abs(found.astype(int) - each.run(images)) for each in (reference, fast))
    if steps.any():
        raise NotConverted(
            f"{path.name}: {int((steps > 0).sum())} of {found.size} logits differ between TensorFlow Lite Micro and "
            f"LiteRT's reference kernels, by up to {steps.max()} int8 steps; allowed: none"
        )
    counts = counts_of(fast.logits(found), test.labels[positions].long(), about)
    return TflmReceipt(
        error_pct=error_pct_of(counts, about),
        examples=count,
        max_steps_apart=int(from_fast.max()),
        arena_bytes=arena.total,
        activation_bytes=arena.activations,
        interpreter_bytes=arena.interpreter,
    )
