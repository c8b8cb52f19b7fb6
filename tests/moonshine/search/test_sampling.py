"""Sampling under budgets against brute force over small spaces."""

import itertools
import json
import logging
import math
from collections import Counter
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moonshine.costs.budgets import parse_budget, parse_budgets
from moonshine.errors import MoonshineError
from moonshine.search.place_costs import PlaceCost, SpaceCosts, place_costs
from moonshine.search.sampling import sample
from moonshine.search.space import Space
from moonshine.structures.describe import places_of
from tests.messages import naming

UNITS = {"fp32": "B", "parameters": " params", "macs": " macs"}


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(name="planned", scope="module")
def planned_fixture():
    return planned_costs()


@cache
def planned_costs():
    torch.set_num_threads(1)
    blocks = ("S", "G(4)", "G(N)", "B(2)", "BG(2,M/4)")
    return place_costs(Space(*places_of("wrn-10-1", {}, 10, (3, 8, 8), blocks), (3, 8, 8)))


def everything(planned):
    return [
        dict(zip(planned.table, chosen, strict=True)) for chosen in itertools.product(*planned.table.values())
    ]


def keys(networks):
    return {tuple(network.items()) for network in networks}


def window_of(found):
    assert found.window is not None
    return found.window


def row(**shares):
    """Block -> its share, from (parameters, macs, peak)."""
    return {block: PlaceCost(each[0], each[1], each[2]) for block, each in shares.items()}


@settings(suppress_health_check=list(HealthCheck))
@given(
    measure=st.sampled_from(list(UNITS)), share=st.floats(0, 1.1), width=st.sampled_from([0.002, 0.025, 0.2])
)
def test_all_networks_of_the_window_and_no_others(measure, share, width):
    planned = planned_costs()
    networks = everything(planned)
    values = [planned.of(measure, network) for network in networks]
    limit = min(values) + math.floor(share * (max(values) - min(values)))
    found = sample(planned, [parse_budget(f"{limit}{UNITS[measure]}")], 125, rng(), window=width)
    top = min(limit, max(values))
    inside = [(1 - width) * top <= value <= top for value in values]
    if any(inside):
        assert not found.widened
        assert keys(found.networks) == keys(itertools.compress(networks, inside))
    else:
        nearest = max(value for value in values if value <= limit)
        assert found.widened
        assert window_of(found)[0] <= nearest
        assert {planned.of(measure, network) for network in found.networks} >= {nearest}
        if measure != "fp32":
            assert window_of(found)[0] == nearest
            assert keys(found.networks) == keys(itertools.compress(networks, [v == nearest for v in values]))
    assert found.measure == measure
    assert 10**found.log10_networks + 1e-6 >= len(found.networks) == len(keys(found.networks))
    if measure != "fp32":
        assert 10**found.log10_networks == pytest.approx(len(found.networks))
        assert found.drawn == len(found.networks)


def test_every_network_of_the_window_is_as_likely_as_any_other(planned):
    """Chi-square over single draws of separate samples, each of which is drawn and not listed."""
    budget = [parse_budget("30k params")]
    all_of_them = sample(planned, budget, 125, rng(), window=0.2).networks
    assert len(all_of_them) > 8
    generator = rng(3)
    draws = 60 * len(all_of_them)
    seen = Counter(
        tuple(sample(planned, budget, 1, generator, window=0.2).networks[0].items()) for _ in range(draws)
    )
    assert set(seen) == keys(all_of_them)
    statistic = sum((number - 60) ** 2 / 60 for number in seen.values())
    freedom = len(all_of_them) - 1
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)


def test_several_budgets_at_once(planned):
    budgets = parse_budgets(["40k params", "160kB", "1.2M macs", "1MB peak"])
    found = sample(planned, budgets, 125, rng(), window=0.2)
    values = [
        {budget: planned.of(budget.measure, network) for budget in budgets} for network in everything(planned)
    ]
    allowed = [all(budget.allows(value) for budget, value in each.items()) for each in values]
    low, high = window_of(found)
    main = next(budget for budget in budgets if budget.measure == found.measure)
    inside = [ok and low <= each[main] <= high for ok, each in zip(allowed, values, strict=True)]
    assert 0 < sum(inside) < sum(allowed) < 125
    assert keys(found.networks) == keys(itertools.compress(everything(planned), inside))
    assert sum(found.refused.values()) == found.drawn - len(found.networks)
    assert set(found.refused) <= {"parameters", "fp32", "macs"}


def test_the_result_is_plain_data_and_the_same_for_a_seed(planned):
    budget = [parse_budget("60k params")]
    found = sample(planned, budget, 10, rng(7), window=0.5)
    assert found == sample(planned, budget, 10, rng(7), window=0.5)
    assert keys(found.networks) != keys(sample(planned, budget, 10, rng(8), window=0.5).networks)
    assert len(keys(found.networks)) == len(found.networks) == 10
    assert json.loads(json.dumps(asdict(found)))["window"] == [30_000, 60_000]


def test_a_budget_above_the_largest_network_means_the_largest(planned):
    least, most = planned.reachable("parameters")
    found = sample(planned, [parse_budget("9M params"), parse_budget("9GB")], 125, rng(), window=0.1)
    assert found.measure in ("parameters", "fp32")
    assert window_of(found)[1] == planned.reachable(found.measure)[1]
    assert dict.fromkeys(planned.table, "S") in found.networks
    binding = sample(planned, [parse_budget("9GB"), parse_budget("40k params")], 125, rng())
    assert binding.measure == "parameters"
    assert least < window_of(binding)[1] < most


def test_an_impossible_budget_says_what_holds_it_up(planned):
    with pytest.raises(MoonshineError, match=naming("budget 1k params", "smallest", "stage3.0")):
        sample(planned, parse_budgets(["1k params", "1GB"]), 5, rng())


def test_a_window_that_is_widened_says_so(planned, caplog):
    least = int(planned.reachable("parameters")[0])
    with caplog.at_level(logging.WARNING):
        found = sample(planned, [parse_budget(f"{least + 3} params")], 5, rng(), window=1e-6)
    assert found.widened
    assert found.window == (least, least + 3)
    assert "no network in the window" in caplog.text


def test_a_peak_alone_limits_places_and_needs_no_window():
    planned = SpaceCosts(
        PlaceCost(5, 5, 10), {path: row(a=(1, 1, 30), b=(2, 2, 40), c=(3, 3, 50)) for path in "xyz"}
    )
    found = sample(planned, [parse_budget("40B peak")], 100, rng())
    assert keys(found.networks) == keys(
        dict(zip("xyz", chosen, strict=True)) for chosen in itertools.product("ab", repeat=3)
    )
    assert (found.measure, found.window, found.widened) == (None, None, False)
    assert len(sample(planned, [parse_budget("60B peak")], 4, rng()).networks) == 4
    peaks = {path: row(a=(1, 1, 90), b=(2, 2, 40)) for path in "xyz"}
    with pytest.raises(MoonshineError, match=naming("smallest", "11", "peak")):
        sample(replace(planned, table=peaks), parse_budgets(["40B peak", "10 params"]), 4, rng())


def test_budgets_that_no_network_keeps_to_together():
    """Each can be met alone: what is small in one measure is large in the other."""
    planned = SpaceCosts(PlaceCost(0, 0, 0), {path: row(a=(1, 9, 0), b=(9, 1, 0)) for path in "xyz"})
    with pytest.raises(
        MoonshineError, match=naming("12 params", "12 macs", "8 drawn networks", "macs 4", "parameters 4")
    ):
        sample(planned, parse_budgets(["12 params", "12 macs"]), 5, rng(), window=0.9)
    many = SpaceCosts(
        PlaceCost(0, 0, 0), {f"p{i}": row(a=(1, 9, 0), b=(9, 1, 0), c=(5, 6, 0)) for i in range(20)}
    )
    with pytest.raises(MoonshineError, match=naming("600 drawn networks", "none")):
        sample(many, parse_budgets(["80 params", "80 macs"]), 5, rng(), window=0.9, most_drawn=300)


def test_the_second_budget_gets_its_own_window_where_the_first_one_fails():
    """Near the limit on parameters nothing keeps to the MACs, but less of both is possible."""
    rows = {"x": row(a=(100, 10, 0), b=(50, 5, 0)), "y": row(a=(1, 5, 0), b=(2, 4, 0))}
    planned = SpaceCosts(PlaceCost(0, 0, 0), rows)
    found = sample(planned, parse_budgets(["101 params", "10 macs"]), 5, rng(), window=0.01)
    assert found.measure == "macs"
    assert found.networks == ({"x": "b", "y": "a"},)


def test_estimates_and_fractions():
    """Latencies are no whole numbers: the grid is coarse, the result is not."""
    planned = SpaceCosts(
        PlaceCost(0, 0, 0), {path: row(a=(1, 1, 0), b=(2, 2, 0), c=(3, 3, 0)) for path in "vwxyz"}
    )
    times = {
        path: {"a": 0.1 + i / 7, "b": 0.37 + i / 9, "c": 1.01 + i / 11} for i, path in enumerate("vwxyz")
    }
    timed = planned.with_estimate("latency", 0.05, times)
    found = sample(timed, [parse_budget("3.2ms")], 300, rng(), window=0.3)
    inside = [network for network in everything(timed) if 0.7 * 3.2 <= timed.of("latency", network) <= 3.2]
    assert keys(found.networks) == keys(inside)
    with pytest.raises(MoonshineError, match="found no latency"):
        sample(planned, [parse_budget("3ms")], 5, rng())
