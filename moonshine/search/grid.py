"""Counting, sampling and listing of the combinations of one number from each row whose total lies in a range.

By dynamic programming over the rows: the number of ways to reach each total with the rows from i on. Counts are
float64, which is exact where it matters: they are sums of non-negative numbers, so an impossible total counts exactly
0, and the relative error of a count is below 1e-15 times the number of additions. A layer that nears the largest float
is divided by a power of two, which rounds nothing below 2^1900 combinations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 1 << 17
"""Most totals to distinguish: a finer grid costs memory (8 bytes for each, per row) and time."""

Integers = NDArray[np.int64]
_LARGE = 900  # of the 1023 binary exponents of a float


@dataclass(frozen=True)
class Grid:
    """Rows of numbers as whole steps of ``unit`` above each row's minimum.

    The true total of a combination, less ``least``, is its steps times ``unit``, and less than ``slack`` units more;
    with a slack of 0, no more.
    """

    steps: tuple[Integers, ...]
    least: float
    unit: float
    slack: int

    def bounds(self, low: float, high: float) -> tuple[int, int]:
        """Return the steps, both included, between which all totals from ``low`` to ``high`` lie."""
        first = math.ceil((low - self.least) / self.unit) - self.slack
        return max(first, 0), math.floor((high - self.least) / self.unit)


def to_grid(rows: Sequence[Sequence[float]], rest: float, top: float) -> Grid:
    """Return the grid for totals (of ``rest`` and one number per row) up to ``top``.

    Exact, in steps of the greatest common divisor of all differences, where the numbers are whole and the divisor
    leaves no more than `BINS` steps.
    """
    lowest = [min(row) for row in rows]
    least = rest + sum(lowest)
    above = [np.asarray(row, dtype=np.float64) - low for row, low in zip(rows, lowest, strict=True)]
    # if all numbers are equal, anything divides the differences
    divisor = math.gcd(*(int(value) for row in above for value in row)) or max(math.ceil(top - least), 1)
    whole = all((row % 1 == 0).all() for row in above)
    if whole and top - least <= divisor * BINS:
        unit, slack = float(divisor), 0
    else:
        # the second term only keeps the steps in the range of integers where nothing is above the least
        unit = max(top - least, 1e-9 * sum(row.max() for row in above), 1e-9) / BINS
        slack = len(rows) + 1  # every row may lose a step to rounding, and the division itself one
    return Grid(tuple(np.floor(row / unit).astype(np.int64) for row in above), least, unit, slack)


@dataclass(frozen=True)
class Ways:
    """``counts[i][t]``: number of ways in which the rows from i on total t steps, up to a power of two per i."""

    grid: Grid
    counts: tuple[NDArray[np.float64], ...]
    exponent: int  # of two, for counts[0]

    def totals(self) -> Integers:
        """Return the reachable totals, ascending."""
        return np.flatnonzero(self.counts[0])

    def log10(self, low: int, high: int) -> float:
        """Return the decimal logarithm of the number of combinations of ``low`` to ``high`` steps, which is not 0."""
        return math.log10(self.counts[0][low : high + 1].sum()) + self.exponent * math.log10(2)

    def draw(self, low: int, high: int, number: int, rng: np.random.Generator) -> Integers:
        """Return (number, rows) indices of combinations of ``low`` to ``high`` steps, each as likely as any other."""
        left = low + _pick(np.broadcast_to(self.counts[0][low : high + 1], (1, high + 1 - low)), number, rng)
        chosen = np.empty((number, len(self.grid.steps)), dtype=np.int64)
        for row, steps in enumerate(self.grid.steps):
            after = left[:, None] - steps
            chosen[:, row] = _pick(
                np.where(after < 0, 0, self.counts[row + 1][np.maximum(after, 0)]), number, rng
            )
            left -= steps[chosen[:, row]]
        return chosen

    def list(self, low: int, high: int) -> Integers:
        """Return (all, rows) indices of every combination of ``low`` to ``high`` steps."""
        chosen = np.empty((1, 0), dtype=np.int64)
        used = np.zeros(1, dtype=np.int64)
        for row, steps in enumerate(self.grid.steps):
            option = np.tile(np.arange(len(steps)), len(chosen))
            chosen = np.column_stack([np.repeat(chosen, len(steps), axis=0), option])
            used = np.repeat(used, len(steps)) + steps[option]
            # a start is kept if it can be continued to a total between the bounds
            reached = np.concatenate([[0], np.cumsum(self.counts[row + 1] > 0)])
            kept = (used <= high) & (
                reached[np.maximum(high - used, -1) + 1] > reached[np.maximum(low - used, 0)]
            )
            chosen, used = chosen[kept], used[kept]
        return chosen


def count_ways(grid: Grid, high: int) -> Ways:
    """Count the combinations of every total from 0 to ``high`` steps."""
    counts = [np.zeros(high + 1)]
    counts[0][0] = 1
    exponent = 0
    for steps in reversed(grid.steps):
        layer = np.zeros(high + 1)
        for step in steps[steps <= high]:
            layer[step:] += counts[0][: high + 1 - step]
        if layer.max() > 2.0**_LARGE:
            layer, exponent = np.ldexp(layer, -_LARGE), exponent + _LARGE
        counts.insert(0, layer)
    return Ways(grid, tuple(counts), exponent)


def _pick(weights: NDArray[np.float64], number: int, rng: np.random.Generator) -> Integers:
    """An index into each row of weights, or ``number`` into the only one, with the weights' probabilities."""
    sums = np.cumsum(weights, axis=1)
    # strictly below the sum, so that the first index whose running sum is above it has a weight
    points = np.minimum(rng.random(number) * sums[:, -1], np.nextafter(sums[:, -1], 0))
    if len(weights) == 1:
        return np.searchsorted(sums[0], points, side="right")
    return (sums <= points[:, None]).sum(axis=1)
