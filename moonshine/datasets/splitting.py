"""Stratified splitting: holding out a share of the images of every class."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moonshine.errors import MoonshineError

Indices = NDArray[np.int64]


def hold_out(labels: NDArray[Any], share: float, *, seed: int, key: str) -> tuple[Indices, Indices]:
    """Indices (kept, held out), each ascending: ``share`` of the images, drawn at random within each class.

    ``labels`` (N,) are 0 to K - 1. The split depends on labels, share, seed and ``key`` ("data.test",
    "data.validation") only, so that two splits of one seed are independent. Counts per class follow the share
    by largest remainders and add up to ``round(share * N)``.
    Raises MoonshineError, naming ``key``, where a class would have no image on either side.
    """
    sizes = np.bincount(labels)
    held = _largest_remainders(sizes, share)
    empty = np.flatnonzero((held == 0) | (held == sizes))
    if len(empty):
        label = int(empty[0])
        side = "held out" if held[label] == 0 else "left"
        raise MoonshineError(
            f"{key}: {share} leaves class {label}, which has {sizes[label]} images, with none {side}; "
            + _allowed(int(sizes.min()))
        )
    # RandomState, because numpy promises that its stream never changes; hashed, so that no two keys share it.
    digest = hashlib.sha256(f"{key} {seed}".encode()).digest()
    draws = np.random.RandomState(np.frombuffer(digest, dtype="<u4"))
    chosen = [
        draws.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in enumerate(held.tolist())
    ]
    mask = np.zeros(len(labels), dtype=bool)
    mask[np.concatenate(chosen)] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def _largest_remainders(sizes: Indices, share: float) -> Indices:
    exact = sizes * share
    counts = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum())) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return counts


def _allowed(smallest: int) -> str:
    if smallest < 2:
        return "no share can: that needs two images of every class"
    return f"allowed: about {1 / smallest:.2g} to {1 - 1 / smallest:.2g}"
