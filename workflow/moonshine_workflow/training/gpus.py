"""Sharing of this machine's GPUs among the nodes that run at the same time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import torch
from filelock import FileLock, Timeout

_CLAIMS = Path(tempfile.gettempdir()) / f"moonshine-gpus-{os.getuid()}"
"""Folder of the claims of one user's processes: locks, which are released when the process that holds them ends."""


def visible() -> list[str]:
    """Return the names, as in ``CUDA_VISIBLE_DEVICES``, of the GPUs that this process may use, by index."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    here = torch.cuda.device_count()
    return named.split(",")[:here] if named else [str(index) for index in range(here)]


@contextmanager
def claimed(
    gpus: Sequence[str], wanted: int, among: Sequence[int] | None = None, folder: Path = _CLAIMS
) -> Iterator[list[int]]:
    """Claim ``wanted`` of ``gpus`` within the context and yield the indices of those with the fewest claims, ascending.

    ``among`` restricts the choice to these indices; None allows all. Nodes may share a GPU: the engine decides how many
    run at the same time, this function decides where.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as claims:
        with FileLock(folder / "choosing"):
            numbers = {index: _claims(folder, gpus[index]) for index in among or range(len(gpus))}
            chosen = sorted(sorted(numbers, key=lambda index: len(numbers[index]))[:wanted])
            for index in chosen:
                free = next(number for number in count() if number not in numbers[index])
                claims.enter_context(_lock(folder, gpus[index], free).acquire(timeout=0))
        yield chosen


def _claims(folder: Path, gpu: str) -> set[int]:
    """Return the numbers of the claims on a GPU that are held."""
    held = set()
    for path in folder.glob(f"{_file_name(gpu)}@*"):
        number = int(path.name.rpartition("@")[2])
        try:
            _lock(folder, gpu, number).acquire(timeout=0).lock.release()
        except Timeout:
            held.add(number)
    return held


def _lock(folder: Path, gpu: str, number: int) -> FileLock:
    return FileLock(folder / f"{_file_name(gpu)}@{number}")


def _file_name(gpu: str) -> str:
    return gpu.replace("/", "-")
