"""Plans: every size is that of the built network, and what is said to fit does."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import pytest
from torch import nn

from moonshine.costs.budgets import parse_budgets
from moonshine.costs.cost import cost
from moonshine.errors import MoonshineError
from moonshine.search.place_costs import place_costs
from moonshine.search.place_latency import Latencies
from moonshine.search.planning import Plan, plan_students
from moonshine.search.space import Space
from moonshine.structures.describe import places_of
from tests.messages import naming

SHAPE = (3, 8, 8)
BLOCKS = ("S", "G(4)", "G(N)", "B(2)")


@pytest.fixture(scope="module")
def space() -> Space:
    return Space(*places_of("wrn-10-1", {}, 10, SHAPE, BLOCKS), SHAPE)


def latencies(space: Space) -> Latencies:
    """Made up: G(N) is slower than S everywhere, the others faster."""
    ms = {"S": 2.0, "G(4)": 1.0, "G(N)": 3.0, "B(2)": 0.5}
    return Latencies(
        1.0, {path: {block: ms[block] for block in space.fitting[path]} for path in space.places}, 1
    )


def exported(space: Space, blocks: Mapping[str, str], format: str) -> int:
    """A file of four bytes for each parameter, and one of a thousand more for each G(4)."""
    return 4 * cost(space.build(blocks), SHAPE).parameters + 1000 * list(blocks.values()).count("G(4)")


def make(space: Space, *budgets: str) -> Plan:
    return plan_students(
        space,
        parse_budgets(budgets),
        lambda: latencies(space),
        lambda blocks, format: exported(space, blocks, format),
    )


def test_sizes_are_those_of_the_built_networks(space: Space) -> None:
    found = make(space, "100k params")
    for option in (found.teacher, *found.uniform, *found.mixed):
        real = cost(space.build(option.blocks), SHAPE)
        assert option.values["parameters"] == real.parameters
        assert option.values["macs"] == real.macs
        assert option.values["fp32"] == real.bytes
        assert option.values["peak"] == real.peak_activation_bytes


def test_every_uniform_student_is_there_and_fits_or_not(space: Space) -> None:
    limit = sorted(option.values["parameters"] for option in make(space, "1GB").uniform)[1]
    found = make(space, f"{limit:.0f} params")
    assert [option.name for option in found.uniform] == list(BLOCKS[1:])
    assert {o.name: o.fits for o in found.uniform} == {
        o.name: o.values["parameters"] <= limit for o in found.uniform
    }
    assert {option.fits for option in found.uniform} == {True, False}


def test_mixtures_fit_and_the_one_that_computes_most_is_first(space: Space) -> None:
    found = make(space, "40k params")
    assert found.mixed
    assert all(option.fits and option.values["parameters"] <= 40_000 for option in found.mixed)
    macs = [option.values["macs"] for option in found.mixed]
    assert macs == sorted(macs, reverse=True)


def test_several_budgets_hold_at_once(space: Space) -> None:
    found = make(space, "60k params", "7ms")
    assert all(o.values["parameters"] <= 60_000 and o.values["latency"] <= 7 for o in found.mixed)
    assert found.reach.keys() == {"parameters", "latency"}


def test_no_student_lies_outside_what_is_reachable(space: Space) -> None:
    """RAM depends on more than the peak that its estimate is made from."""
    found = plan_students(
        space, parse_budgets("1MB ram"), None, lambda blocks, measure: 9000 + 100 * len(set(blocks.values()))
    )
    rams = [option.values["ram"] for option in (found.teacher, *found.uniform, *found.mixed)]
    least, most = found.reach["ram"]
    assert least <= min(rams) < max(rams) <= most


def test_blocks_that_are_slower_are_known(space: Space) -> None:
    found = make(space, "1MB")
    assert found.block_ms["G(N)"] == (9, 6)
    assert found.slower == ("G(N)",)


@pytest.mark.parametrize(("spread", "slower"), [(0.1, ("G(N)",)), (0.25, ())])
def test_a_block_is_slower_where_it_is_outside_the_spread_of_both(
    spread: float, slower: tuple[str, ...], space: Space
) -> None:
    times = replace(latencies(space), spread={"S": spread, "G(N)": spread, "B(2)": 0.4})
    found = plan_students(space, parse_budgets("1MB"), lambda: times, lambda blocks, format: 0)
    assert found.slower == slower
    assert found.unreliable["B(2)"] == 0.4


def test_files_are_really_exported_where_a_budget_limits_them(space: Space) -> None:
    found = make(space, "200kB onnx")
    for option in (*found.uniform, *found.mixed):
        if option.fits:
            assert option.values["onnx"] == exported(space, option.blocks, "onnx") <= 200_000


def test_files_whose_nodes_weigh_more_than_their_parameters(space: Space) -> None:
    """The smallest file is not the one of fewest parameters, and every mixture that fits is found."""

    def size(blocks: Mapping[str, str], format: str) -> int:
        network = space.build(blocks)
        nodes = sum(isinstance(layer, nn.Conv2d) for layer in network.modules())
        return sum(parameter.numel() for parameter in network.parameters()) + 5000 * nodes

    every = [
        dict(zip(space.places, blocks, strict=True))
        for blocks in itertools.product(*(space.fitting[path] for path in space.places))
    ]
    known = place_costs(space)
    fitting = [blocks for blocks in every if size(blocks, "onnx") <= 81_000]
    assert min(every, key=lambda blocks: known.of("parameters", blocks)) not in fitting
    found = plan_students(space, parse_budgets("81kB onnx"), lambda: latencies(space), size)
    assert {option.name for option in found.uniform if option.fits} == {"B(2)"}
    most = sorted(fitting, key=lambda blocks: known.of("macs", blocks), reverse=True)[:3]
    assert [option.blocks for option in found.mixed] == most
    assert [option.values["onnx"] for option in found.mixed] == [size(blocks, "onnx") for blocks in most]


@pytest.mark.parametrize("budget", ["1B", "1 params", "1B onnx", "1 macs", "1B peak", "0.1ms"])
def test_an_impossible_budget_says_what_the_minimum_is(budget: str, space: Space) -> None:
    with pytest.raises(MoonshineError, match=naming("budget", budget, "smallest", "allowed")):
        make(space, budget)


def test_a_budget_larger_than_the_teacher_lets_it_fit(space: Space) -> None:
    found = make(space, "1GB")
    assert found.teacher.fits
    assert all(option.fits for option in found.uniform)
