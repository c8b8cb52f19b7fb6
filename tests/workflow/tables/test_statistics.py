import math
import random
import statistics as stdlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moonshine_workflow.tables.statistics import (
    Estimate,
    binomial_standard_error,
    dominated,
    estimate,
    independent_standard_error,
    margin_of_test_set,
    paired_differences,
    paired_standard_error,
    pooled_difference,
    t_quantile,
    verdict,
)
from tests.messages import naming

errors = st.floats(0, 100)


# Printed tables of Student's t, two-sided 95 %.
@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042), (120, 1.980)],
)
def test_t_quantile_is_that_of_the_tables(degrees, expected):
    assert t_quantile(degrees) == pytest.approx(expected, abs=5e-4)


def test_t_quantile_needs_a_degree_of_freedom():
    with pytest.raises(ValueError, match=naming("at least 1", "0")):
        t_quantile(0)


def test_interval_by_hand():
    found = estimate([1.0, 2.0, 3.0])
    assert (found.n, found.mean) == (3, 2.0)
    assert found.half_width == pytest.approx(4.302653 * 1.0 / math.sqrt(3), rel=1e-6)


def test_two_values_have_an_interval_one_has_none_and_none_has_no_mean():
    assert estimate([4.0, 6.0]).half_width == pytest.approx(12.7062, rel=1e-4)
    assert estimate([4.0]) == Estimate(1, 4.0, None)
    assert estimate([]) == Estimate(0, None, None)


@given(st.lists(errors, min_size=2, max_size=8), st.floats(-50, 50))
def test_a_shift_moves_the_mean_and_not_the_interval(values, shift):
    here, there = estimate(values), estimate([value + shift for value in values])
    assert there.mean == pytest.approx(here.mean + shift, abs=1e-9)
    assert there.half_width == pytest.approx(here.half_width, abs=1e-9)


def test_pairs_are_those_of_common_seeds():
    assert paired_differences({0: 5.0, 2: 6.0, 3: 1.0}, {2: 4.0, 0: 5.5, 1: 9.0}) == {0: -0.5, 2: 2.0}


def test_pooling_averages_students_within_a_seed_first():
    pooled = pooled_difference({"a": {0: -1.0, 1: -2.0, 2: -3.0}, "b": {0: 1.0, 1: 0.0, 2: -1.0}})
    assert pooled.estimate == estimate([0.0, -1.0, -2.0])
    assert (pooled.students, pooled.seeds) == (("a", "b"), (0, 1, 2))


@given(st.lists(errors, min_size=2, max_size=5), st.integers(1, 10))
def test_students_that_repeat_each_other_add_no_certainty(values, copies):
    one = dict(enumerate(values))
    pooled = pooled_difference({f"student{index}": one for index in range(copies)})
    assert pooled.estimate.half_width == pytest.approx(estimate(values).half_width, abs=1e-9)


def test_pooling_leaves_out_a_student_without_all_pairs():
    pairs = {
        "a": {0: -1.0, 1: -2.0, 2: -3.0},
        "b": {0: -1.0, 1: -1.0, 2: -1.0},
        "diverged": {0: 50.0, 2: 50.0},
    }
    pooled = pooled_difference(pairs)
    assert pooled.students == ("a", "b")
    assert pooled.estimate == estimate([-1.0, -1.5, -2.0])


def test_pooling_prefers_seeds_to_students_while_a_study_runs():
    running = {"a": {0: -1.0, 1: -2.0}, "b": {0: -3.0}, "c": {0: -4.0}, "d": {0: -4.0}, "e": {}}
    pooled = pooled_difference(running)
    assert (pooled.students, pooled.seeds) == (("a",), (0, 1))


def test_pooling_nothing():
    assert pooled_difference({"a": {}, "b": {}}).estimate == Estimate(0, None, None)


def covers(found, truth):
    return abs(found.mean - truth) <= found.half_width


def test_the_pooled_interval_covers_what_it_claims_when_seeds_are_shared():
    draw, truth, hits, naive_hits, rounds = random.Random(0), -0.5, 0, 0, 2000
    for _ in range(rounds):
        shared = [draw.gauss(0, 0.3) for _ in range(3)]
        pairs = {
            name: {seed: truth + shared[seed] + draw.gauss(0, 0.3) for seed in range(3)} for name in "abcdef"
        }
        honest = pooled_difference(pairs).estimate
        naive = estimate([value for seeds in pairs.values() for value in seeds.values()])
        hits += covers(honest, truth)
        naive_hits += covers(naive, truth)
    assert 0.93 < hits / rounds < 0.97
    assert naive_hits / rounds < 0.85


def test_binomial_standard_error_by_hand():
    assert binomial_standard_error(5.0, 10_000) == pytest.approx(0.21794, abs=1e-5)
    assert binomial_standard_error(0.0, 449) == 0.0
    assert independent_standard_error(5.0, 5.0, 10_000) == pytest.approx(0.21794 * math.sqrt(2), abs=1e-5)


misses = st.lists(st.frozensets(st.integers(0, 19)), min_size=1, max_size=3)


@given(misses, misses)
@example(
    [frozenset()], [frozenset(), frozenset(), frozenset(range(20))]
)  # all alike: no cancellation is left
def test_paired_standard_error_is_that_of_the_images_own_differences(wrong, baseline):
    def rates(runs):
        return [sum(image in run for run in runs) / len(runs) for image in range(20)]

    shifts = [a - b for a, b in zip(rates(wrong), rates(baseline), strict=True)]
    expected = 100 * stdlib.pstdev(shifts) / math.sqrt(20)
    assert paired_standard_error(wrong, baseline, 20) == pytest.approx(expected, abs=1e-9)


def test_paired_standard_error_has_the_same_bits_in_whatever_order_images_come():
    runs = [{0, 1, 2, 5, 8, 13, 21}, {1, 3, 5, 13, 34}, {2, 5, 34, 55}]

    def renamed(prefix):  # strings are hashed anew in each process, and each name has its place in a set
        return [{f"{prefix}{image}" for image in run} for run in runs]

    found = {paired_standard_error(renamed(prefix), renamed(prefix)[:1], 719) for prefix in range(200)}
    assert len(found) == 1


def test_the_same_mistakes_leave_no_test_set_uncertainty():
    assert paired_standard_error([{1, 5}], [{1, 5}], 100) == 0.0


@pytest.mark.parametrize(
    ("mean", "half_width", "test_se", "expected"),
    [
        (-0.8, 0.3, 0.2, "better"),
        (0.8, 0.3, 0.2, "worse"),
        (-0.8, 0.9, 0.2, "inconclusive"),  # inside the interval over seeds
        (-0.8, 0.3, 0.5, "inconclusive"),  # inside the test set's own
        (-0.8, 0.6, 0.3, "inconclusive"),  # outside each, inside both together
        (-0.8, 0.8, 0.2, "inconclusive"),  # on the edge
        (0.0, 0.0, 0.0, "inconclusive"),
        (-0.8, None, 0.2, "inconclusive"),  # one seed
        (None, None, None, "inconclusive"),
    ],
)
def test_verdicts(mean, half_width, test_se, expected):
    assert verdict(Estimate(3, mean, half_width), test_se) == expected


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("ratio", [0.3, 1.0, 3.0])
def test_where_there_is_no_effect_at_most_one_in_twenty_is_called(seeds, ratio):
    """Seeds differ with deviation 1; the test images, which all seeds share, add ``ratio`` times what that leaves."""
    draw, studies = np.random.default_rng(seeds), 10_000
    test_se = ratio / math.sqrt(seeds)
    shared = draw.normal(0, test_se, (studies, 1))
    found = shared + draw.normal(size=(studies, seeds))
    half_widths = t_quantile(seeds - 1) * found.std(1, ddof=1) / math.sqrt(seeds)
    called = [
        verdict(Estimate(seeds, mean, half), test_se) != "inconclusive"
        for mean, half in zip(found.mean(1).tolist(), half_widths.tolist(), strict=True)
    ]
    assert np.mean(called) < 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)


def test_the_margin_of_few_pictures_is_that_of_students_t():
    assert margin_of_test_set(0.5) == pytest.approx(0.98, abs=1e-3)
    assert margin_of_test_set(0.5, 16) == pytest.approx(2.131 * 0.5, abs=1e-3)
    assert margin_of_test_set(0.5, 500) == pytest.approx(1.965 * 0.5, abs=1e-3)


def test_few_pictures_leave_more_open():
    found = Estimate(3, -0.8, 0.3)
    assert verdict(found, 0.37) == verdict(found, 0.37, 500) == "better"
    assert verdict(found, 0.37, 16) == "inconclusive"


def test_dominated_by_hand():
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 4.5), (3.0, 4.0), (1.0, 5.0)]
    assert dominated(points) == [False, False, True, True, False]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_a_front_falls_and_covers_every_dominated_point(points):
    out = dominated(points)
    front = sorted({point for point, beaten in zip(points, out, strict=True) if not beaten})
    assert [error for _, error in front] == sorted((error for _, error in front), reverse=True)
    for point, beaten in zip(points, out, strict=True):
        assert beaten == any(x <= point[0] and y <= point[1] for x, y in front if (x, y) != point)
