"""Planned costs are those of the built network, for every choice of blocks."""

import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moonshine.costs.budgets import parse_budget
from moonshine.costs.cost import cost
from moonshine.costs.latency import Visit
from moonshine.errors import MoonshineError
from moonshine.search import place_latency
from moonshine.search.limits import Impossible, check_reachable, within_maximum, without_costlier
from moonshine.search.place_costs import PlaceCost, SpaceCosts, place_costs
from moonshine.search.place_latency import measure_latencies
from moonshine.search.space import Space
from moonshine.structures.describe import places_of
from tests.messages import naming

BLOCKS = ("S", "G(4)", "G(N/8)", "B(2)", "BG(2,M/16)")
SHAPE = (3, 16, 16)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def space_of(name, blocks=BLOCKS, shape=SHAPE):
    return Space(*places_of(name, {}, 10, shape, blocks), shape)


SPACES = {name: space_of(name) for name in ("wrn-16-1", "wrn-22-2")}
COSTS: dict[str, SpaceCosts] = {}


def costs_of(name):
    if name not in COSTS:
        COSTS[name] = place_costs(SPACES[name])
    return COSTS[name]


def refusal(planned, budget):
    """The error for a budget that cannot be met, as text; nothing where it can."""
    try:
        check_reachable(planned, parse_budget(budget))
    except Impossible as error:
        return str(error)
    return ""


def a_choice(space):
    return st.fixed_dictionaries({path: st.sampled_from(space.fitting[path]) for path in space.places})


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=settings().max_examples // 3, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_planned_costs_are_those_of_the_network(name, data):
    space, planned = SPACES[name], costs_of(name)
    blocks = data.draw(a_choice(space))
    with torch.device("meta"):
        network = space.build(blocks)
    real = cost(network, SHAPE)
    exact = {
        "parameters": real.parameters,
        "macs": real.macs,
        "peak": real.peak_activation_bytes,
    }
    assert {measure: planned.of(measure, blocks) for measure in exact} == exact
    tensors = len(network.state_dict())
    assert real.bytes <= planned.of("fp32", blocks) < real.bytes + 18 * tensors


def test_a_model_of_torchvision():
    pytest.importorskip("torchvision")
    every = ("G(4)", "BG(2,M)", "S", "FIRE(4)", "TT(4)")
    space = Space(*places_of("torchvision/resnet18", {}, 7, (3, 32, 32), every), (3, 32, 32))
    planned = place_costs(space)
    blocks = {path: space.fitting[path][index % 5] for index, path in enumerate(space.places)}
    with torch.device("meta"):
        network = space.build(blocks)
    real = cost(network, (3, 32, 32))
    assert [planned.of(measure, blocks) for measure in ("parameters", "macs", "peak")] == [
        real.parameters, real.macs, real.peak_activation_bytes
    ]  # fmt: skip
    assert real.bytes <= planned.of("fp32", blocks) < 1.001 * real.bytes


def test_a_block_that_fits_in_some_places_only():
    space = space_of("wrn-10-2", ("S", "G(32)"))
    assert space.fitting == {"stage1.0": ("S",), "stage2.0": ("S", "G(32)"), "stage3.0": ("S", "G(32)")}
    assert space.uniform("G(32)") == {"stage2.0": "G(32)", "stage3.0": "G(32)"}
    planned = place_costs(space)
    blocks = {"stage1.0": "S", "stage2.0": "G(32)", "stage3.0": "S"}
    assert planned.of("parameters", blocks) == cost(space.build(blocks), SHAPE).parameters
    only = space_of("wrn-10-2", ("G(32)",))
    assert only.places == ("stage2.0", "stage3.0")
    assert place_costs(only).rest.parameters > planned.rest.parameters  # where nothing fits, S stays
    with pytest.raises(MoonshineError, match=naming("wrn-10-2", "3 places")):
        space_of("wrn-10-2", ("G(7)",))


def test_a_place_that_the_structure_lacks():
    structure, fitting, refused = places_of("wrn-10-1", {}, 10, SHAPE, ("S",))
    with pytest.raises(MoonshineError, match=naming("stage9.0", "stage1.0", "stage2.0", "stage3.0")):
        Space(structure, {**fitting, "stage9.0": ("S",)}, refused, SHAPE)


def test_other_layers_that_change_with_the_blocks_are_refused(monkeypatch):
    space = space_of("wrn-10-1", ("S", "G(4)"))
    honest = Space.build

    def fickle(self, blocks):
        network = honest(self, blocks)
        if "G(4)" in blocks.values():
            network.add_module("extra", torch.nn.Linear(2, 2))
        return network

    monkeypatch.setattr(Space, "build", fickle)
    with pytest.raises(MoonshineError, match=naming("G(4)", "other layers")):
        place_costs(space)


def test_reachable_and_impossible():
    planned = costs_of("wrn-16-1")
    smallest = planned.extreme("parameters")
    least, most = planned.reachable("parameters")
    assert (least, most) == (
        planned.of("parameters", smallest),
        planned.of("parameters", dict.fromkeys(planned.table, "S")),
    )
    for measure in UNITS:
        low, high = planned.reachable(measure)
        assert low <= high
        assert not refusal(planned, f"{low:.0f}{UNITS[measure]}")
        assert refusal(planned, f"{low - 1:.0f}{UNITS[measure]}")
    error = refusal(planned, "1 params")
    floor = planned.table["stage3.0"][smallest["stage3.0"]].parameters
    for said in (
        f"budget 1 params: the smallest network has {least:,.0f} (trainable parameters)",
        f"{planned.rest.parameters:,} in what no place changes",
        f"{floor:,} at stage3.0",
        f"allowed: from {least:,.0f}",
    ):
        assert said in error


UNITS = {"fp32": "B", "macs": " macs", "peak": "B peak"}


def test_a_peak_is_a_limit_on_each_place():
    def row(**peaks):
        return {block: PlaceCost(1, 1, peak) for block, peak in peaks.items()}

    planned = SpaceCosts(PlaceCost(1, 1, 50), {"one": row(a=40, b=80), "two": row(a=60, b=70, c=90)})
    assert planned.reachable("peak") == (60, 90)
    assert {
        path: list(row) for path, row in within_maximum(planned, parse_budget("75B peak")).table.items()
    } == {
        "one": ["a"],
        "two": ["a", "b"],
    }
    assert planned.of("peak", {"one": "a", "two": "b"}) == 70
    assert not refusal(planned, "60B peak")
    said = refusal(planned, "59B peak")
    assert "0.000 MB while other layers run, and at least 0.000 MB at two, 0.000 MB at one" in said


def test_a_block_that_saves_nothing_at_its_place_is_not_offered_there():
    def row(**costs):
        return {block: PlaceCost(parameters, macs, 1) for block, (parameters, macs) in costs.items()}

    planned = SpaceCosts(
        PlaceCost(1, 1, 1),
        {
            "one": row(S=(10, 10), fewer=(8, 12), dearer=(10, 11), same=(10, 10)),
            "two": row(fewer=(9, 20)),
        },
    )
    assert {path: list(row) for path, row in without_costlier(planned).table.items()} == {
        "one": ["S", "fewer", "same"],
        "two": ["fewer"],
    }


def test_blocks_that_were_measured_in_a_busy_moment_are_measured_again(monkeypatch):
    space = space_of("wrn-10-1", ("S", "G(4)", "B(2)"))
    script: dict[str, list[float]] = {"S": [10, 10.1], "G(4)": [60, 9, 9.1, 0], "B(2)": [9, 18, 36, 72]}
    asked: list[str] = []

    def visit(space, block, images, repeats):
        asked.append(block)
        total = script[block][asked.count(block) - 1]
        return Visit(dict.fromkeys(("", *space.places), total / 4))

    monkeypatch.setattr(place_latency, "_visit", visit)
    times = measure_latencies(space)
    assert asked == ["S", "G(4)", "B(2)"] * 2 + ["G(4)", "B(2)", "B(2)"]
    assert times.table["stage1.0"] == {"S": 2.513, "G(4)": 2.263, "B(2)": 3.375}
    assert times.spread == {"S": 0.02, "G(4)": 0.02, "B(2)": 1.0}
    assert times.unreliable == {"B(2)": 1.0}


def test_latencies():
    space = space_of("wrn-10-1", ("S", "G(4)"))
    torch.manual_seed(4)
    random = torch.get_rng_state()
    times = measure_latencies(space, threads=1, repeats=1)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_num_threads() == 1
    assert times.threads == 1
    assert times.rest_ms > 0
    assert all(time > 0 for row in times.table.values() for time in row.values())
    again = json.loads(json.dumps(asdict(times)))
    assert again["table"].keys() == space.fitting.keys()
    planned = place_costs(space, times)
    blocks = {"stage1.0": "S", "stage2.0": "G(4)", "stage3.0": "S"}
    total = times.rest_ms + sum(times.table[path][block] for path, block in blocks.items())
    assert planned.of("latency", blocks) == pytest.approx(total)
    assert refusal(planned, "1us")
    with pytest.raises(MoonshineError, match=naming("latency", "parameters", "macs", "peak", "fp32")):
        costs_of("wrn-16-1").reachable("latency")
