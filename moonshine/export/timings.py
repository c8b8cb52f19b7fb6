"""Latency and memory of an exported file, measured in a separate process.

Kept apart from receipts because it is not deterministic. Run as a module, this file is that process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moonshine.errors import MoonshineError
from moonshine.formats.formats import format_of

if TYPE_CHECKING:
    from moonshine.networks.models import Trust

TIMED_BATCHES = (1, 32)
_WARM_UP = 3
RUNS = (20, 200)
"""Least and largest number of timed runs per batch size."""
SECONDS = 0.5
"""Time after which no run is added to the least number."""


@dataclass(frozen=True)
class Latency:
    """Wall time of one batch, and the peak resident memory up to then."""

    batch: int
    median_ms: float
    p95_ms: float
    runs: int
    peak_bytes: int


@dataclass(frozen=True)
class Timing:
    """Measurements of one file; ``baseline_bytes`` is the memory with its runtime imported and no file opened."""

    format: str
    file: str
    threads: int
    baseline_bytes: int
    batches: tuple[Latency, ...]


def measure_file(
    path: Path | str,
    input_shape: Sequence[int],
    threads: int = 1,
    batches: Sequence[int] = TIMED_BATCHES,
    seconds: float = SECONDS,
    trust: Trust = (),
) -> Timing:
    """Measure latency and peak resident memory of an exported file, in a new process with nothing but its runtime.

    ``input_shape`` is (C, H, W). Each of ``batches``, ascending, is run on random pixels for about ``seconds``. Memory
    is Linux's count of resident pages, including shared libraries: subtract the baseline to get what the file needs
    besides its runtime. ``trust`` as for `moonshine.structures.artifacts.load`. Raises MoonshineError for a file that
    cannot be run.
    """
    path = Path(path)
    format = format_of(path)
    count = str(threads)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            __name__,
            str(path),
            _list(input_shape),
            count,
            _list(sorted(batches)),
            str(seconds),
            *([trust] if isinstance(trust, str) else sorted(trust)),
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),  # the user's own modules are found again
            "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise MoonshineError(f"{path}: cannot be measured: {reason}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Timing(
        format=format.name,
        file=path.name,
        threads=threads,
        baseline_bytes=found["baseline_bytes"],
        batches=tuple(Latency(**row) for row in found["batches"]),
    )


def _list(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _measure_here(
    path: Path, shape: Sequence[int], threads: int, batches: Sequence[int], seconds: float, trust: Trust
) -> dict[str, Any]:
    pixels = np.random.default_rng(0).random((max(batches), *shape), dtype=np.float32)
    format = format_of(path)
    for name in format.runtime:
        import_module(name)
    _reset_peak()
    baseline = _memory("VmRSS")
    run = format.open(path, threads, trust)
    return {
        "baseline_bytes": baseline,
        "batches": [asdict(_latency(run, pixels[:size], seconds)) for size in batches],
    }


def _latency(run: Any, pixels: Any, seconds: float) -> Latency:
    for _ in range(_WARM_UP):
        run(pixels)
    times: list[float] = []
    while len(times) < RUNS[0] or (len(times) < RUNS[1] and sum(times) < seconds):
        start = time.perf_counter()
        run(pixels)
        times.append(time.perf_counter() - start)
    median, late = (round(1000 * float(np.quantile(times, share)), 3) for share in (0.5, 0.95))
    return Latency(len(pixels), median, late, len(times), _memory("VmHWM"))


def _reset_peak() -> None:
    """Reset VmHWM; if the kernel does not allow that, it counts from the start of the process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _memory(key: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes.

    ``getrusage`` would not do: its maximum survives exec, so a small child of a large process reports its parent's.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise MoonshineError(f"/proc/self/status: found no {key}; allowed: Linux")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Measure one exported file and print the results as JSON.")
    parser.add_argument("path", type=Path)
    for name in ("shape", "threads", "batches", "seconds"):
        parser.add_argument(name)
    parser.add_argument("trust", nargs="*")
    options = parser.parse_args()
    shape, batches = ([int(size) for size in text.split(",")] for text in (options.shape, options.batches))
    threads, seconds = int(options.threads), float(options.seconds)
    found = _measure_here(options.path, shape, threads, batches, seconds, options.trust)
    print(json.dumps(found), flush=True)
    os._exit(0)  # dismantling torch's modules takes as long as half of their import


if __name__ == "__main__":
    _main()
