"""Arrays that generated weights are made with and that no file holds: they follow from a width and a seed.

Random ones come from SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014), which is
these lines, so that a network means the same with every version of every library.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SEED = 2018
"""The seed of every network: its notation alone says what it is."""


def random_bits(count: int, seed: int = SEED) -> NDArray[np.uint64]:
    """The first outputs of SplitMix64, 64 bits each."""
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def random_signs(count: int) -> NDArray[np.float32]:
    """As many numbers of 1 and -1."""
    return np.where(random_bits(count) & np.uint64(1), 1, -1).astype(np.float32)


def permutation(count: int) -> NDArray[np.int64]:
    """The numbers below ``count`` in the order of their random bits."""
    return np.argsort(random_bits(count), kind="stable").astype(np.int64)


def riffle(count: int) -> NDArray[np.int64]:
    """Two halves of an even count, dealt in turn."""
    return np.arange(count).reshape(2, -1).T.flatten()


def cosines(count: int) -> NDArray[np.float32]:
    """The orthonormal discrete cosine transform (DCT-II); row k is the k-th cosine."""
    points, rows = (2 * np.arange(count) + 1) / (2 * count), np.arange(count)[:, None]
    scale = np.where(rows == 0, np.sqrt(1 / count), np.sqrt(2 / count))
    return np.asarray(scale * np.cos(np.pi * rows * points), np.float32)


def hadamard(rows: int, columns: int) -> NDArray[np.float32]:
    """The first rows of the Walsh-Hadamard matrix of a power of two, of 1 and -1."""
    found = np.ones((1, 1), np.float32)
    while len(found) < columns:
        found = np.block([[found, found], [found, -found]])
    return found[:rows]
