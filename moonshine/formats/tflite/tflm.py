"""A file in TensorFlow Lite Micro's own interpreter, in a process of its own: it ends the process where it fails.

Run as a module, this file is that process.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moonshine.errors import MoonshineError

PLENTY = 1 << 28
"""Bytes of an arena in which any file for a microcontroller runs, to see what it takes."""
SPARE = 256
"""Bytes beyond its parts that an arena gets, for what the interpreter loses between them to alignment."""
ROUNDED_TO = 1024
"""Bytes to which an arena is rounded up."""


@dataclass(frozen=True)
class Arena:
    """RAM that a file takes: ``total`` bytes, in which it was run, for activations and the interpreter's own data."""

    total: int
    activations: int
    interpreter: int


def tflm_is_missing() -> str | None:
    """Return why files are not run in TensorFlow Lite Micro here, or None."""
    if find_spec("tflite_micro"):
        return None
    return "tflite-micro is not installed: it has wheels for Linux on x86-64 only"


def run_in_tflm(path: Path, images: NDArray[np.int8]) -> tuple[NDArray[np.int8], Arena]:
    """Return the int8 logits of int8 images (n, H, W, C), and the arena.

    MoonshineError names an operator that TensorFlow Lite Micro lacks, and says what else it refused.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "images.npy"), Path(folder, "logits.npy")
        np.save(given, images)
        said = _run(path, given, found, PLENTY)
        used = {part: int(size) for part, size in re.findall(r"allocation (head|tail) (\d+) bytes", said)}
        total = -(-(sum(used.values()) + SPARE) // ROUNDED_TO) * ROUNDED_TO
        arena = Arena(total, used["head"], used["tail"])
        _run(path, given, found, arena.total)
        return np.load(found), arena


def arena_of(content: bytes, input_shape: Sequence[int]) -> Arena:
    """Return the RAM that a file takes, from a run; MoonshineError as for `run_in_tflm`, and where that is missing."""
    if reason := tflm_is_missing():
        raise MoonshineError(f"ram: {reason}")
    channels, height, width = input_shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network-int8.tflite")
        path.write_bytes(content)
        return run_in_tflm(path, np.zeros((1, height, width, channels), np.int8))[1]


def _run(path: Path, images: Path, logits: Path, arena: int) -> str:
    """Run the file in an arena of this size; return what the interpreter said."""
    command = [sys.executable, "-m", __name__, *map(str, (path, images, logits, arena))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.returncode:
        return done.stderr
    if lacking := re.findall(r"Didn't find op for builtin opcode '(\w+)'", done.stderr):
        raise MoonshineError(f"{path.name}: TensorFlow Lite Micro lacks {', '.join(sorted(set(lacking)))}")
    reason = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    raise MoonshineError(f"{path.name}: TensorFlow Lite Micro cannot run it in {arena:,} bytes: {reason}")


def _main(path: str, images: str, logits: str, arena: str) -> None:
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(path, arena_size=int(arena))
    given = np.load(images)
    found = []
    for image in given[:1] if int(arena) == PLENTY else given:
        interpreter.set_input(np.ascontiguousarray(image[None]), 0)
        interpreter.invoke()
        found.append(interpreter.get_output(0).copy())
    interpreter.print_allocations()
    np.save(logits, np.concatenate(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
