"""Counting, drawing and listing against brute force."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonshine.search.grid import BINS, count_ways, to_grid

ROWS = [[3, 5, 9], [10, 10, 4], [0, 7, 2], [1, 6, 6]]


def totals(rows, rest):
    return {
        chosen: rest + sum(row[index] for row, index in zip(rows, chosen, strict=True))
        for chosen in itertools.product(*(range(len(row)) for row in rows))
    }


rows_of_numbers = st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=4), min_size=1, max_size=5)


@given(
    rows=rows_of_numbers,
    scale=st.sampled_from([1, 6, 0.25, 0.3]),
    bounds=st.tuples(st.integers(0, 200), st.integers(0, 200)),
)
def test_every_combination_between_the_bounds_and_few_others(rows, scale, bounds):
    rows = [[value * scale for value in row] for row in rows]
    low, high = (100 + bound * scale for bound in sorted(bounds))
    everything = totals(rows, 100)
    if high < min(everything.values()):
        return
    grid = to_grid(rows, 100, high)
    ways = count_ways(grid, grid.bounds(low, high)[1])
    first, last = grid.bounds(low, high)
    found = {tuple(chosen) for chosen in ways.list(first, last).tolist()}
    inside = {chosen for chosen, total in everything.items() if low <= total <= high}
    assert inside <= found
    assert len(found) == ways.counts[0][first : last + 1].sum() * 2.0**ways.exponent
    if scale in (1, 6):
        assert grid.slack == 0
        assert found == inside
    else:
        step = grid.unit * (grid.slack + 1)
        assert all(low - step <= everything[chosen] <= high + step for chosen in found)
    if found:
        drawn = ways.draw(first, last, 20, np.random.default_rng(0))
        assert {tuple(chosen) for chosen in drawn.tolist()} <= found
        assert ways.log10(first, last) == pytest.approx(math.log10(len(found)))


def test_draws_are_uniform():
    """Chi-square of 40,000 draws against equal chances, and every combination turns up."""
    low, high = 18, 24
    inside = [chosen for chosen, total in totals(ROWS, 2).items() if low <= total <= high]
    grid = to_grid(ROWS, 2, high)
    first, last = grid.bounds(low, high)
    drawn = count_ways(grid, last).draw(first, last, 40_000, np.random.default_rng(1))
    seen = Counter(tuple(chosen) for chosen in drawn.tolist())
    assert set(seen) == set(inside)
    expected = 40_000 / len(inside)
    statistic = sum((seen[chosen] - expected) ** 2 / expected for chosen in inside)
    freedom = len(inside) - 1
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)


def test_a_grid_is_exact_in_steps_of_the_divisor():
    grid = to_grid([[16, 48], [80, 32]], 5, 200)
    assert (grid.unit, grid.slack, grid.least) == (16, 0, 53)
    assert [row.tolist() for row in grid.steps] == [[0, 2], [3, 0]]
    assert to_grid([[7, 7], [1]], 0, 8).slack == 0
    coarse = to_grid([[0, 1], [0, 5 * BINS]], 0, 5 * BINS)
    assert (coarse.unit, coarse.slack) == (5, 3)


def test_more_combinations_than_floats_count():
    """3^700 combinations, of which one reaches the least total and 700 the next."""
    rows = [[0, 1, 2]] * 700
    ways = count_ways(to_grid(rows, 0, 1400), 1400)
    assert ways.log10(0, 1400) == pytest.approx(700 * math.log10(3))
    assert ways.log10(0, 0) == pytest.approx(0)
    assert ways.log10(1399, 1399) == pytest.approx(math.log10(700))
    assert len(ways.totals()) == 1401
    drawn = ways.draw(690, 710, 50, np.random.default_rng(0))
    sums = drawn.sum(axis=1)
    assert ((sums >= 690) & (sums <= 710)).all()


def test_what_is_impossible_counts_nothing():
    grid = to_grid([[0, 10], [0, 25]], 0, 35)
    assert (count_ways(grid, 7).totals() * grid.unit).tolist() == [0, 10, 25, 35]
    assert count_ways(grid, 7).list(*grid.bounds(11, 24)).shape == (0, 2)
