"""Rivals: the largest network of the teacher's family that fits, in width or in depth."""

from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moonshine.costs.budgets import Budget, parse_budgets
from moonshine.costs.cost import cost
from moonshine.errors import MoonshineError
from moonshine.networks.families import parse_network
from moonshine.search.rivals import rival, rival_candidates
from moonshine.structures.build import build
from tests.messages import naming

SHAPE = (3, 8, 8)
FIELDS = {"parameters": "parameters", "macs": "macs", "fp32": "bytes", "peak": "peak_activation_bytes"}


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small only wait for a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def measured(name, measure, shape=SHAPE):
    with torch.device("meta"):
        model = build(name, num_classes=10, in_channels=shape[0])
    return getattr(cost(model, shape), FIELDS[measure])


def limit(measure, value):
    return (Budget(measure, value, f"{value} {measure}"),)


def test_width_candidates_differ_in_width_alone():
    names = rival_candidates("wrn-16-2", "width")
    assert names[0] == "wrn-16-0.03125"
    assert names[-1] == "wrn-16-1.96875"
    assert "wrn-16-1" in names
    designs = [parse_network(name) for name in names]
    assert {design.depth for design in designs} == {16}
    channels = [design.channels for design in (*designs, parse_network("wrn-16-2"))]
    assert len(set(channels)) == len(channels)
    assert all(a <= b for before, after in pairwise(channels) for a, b in zip(before, after, strict=True))


def test_depth_candidates_differ_in_depth_alone():
    assert rival_candidates("wrn-28-0.5", "depth") == ("wrn-10-0.5", "wrn-16-0.5", "wrn-22-0.5")
    assert rival_candidates("resnet-34", "depth") == ("resnet-10", "resnet-18")
    assert rival_candidates("torchvision/resnet18", "depth") == ("resnet-10",)


def test_narrow_teachers_have_no_rival_equal_to_them():
    names = rival_candidates("wrn-10-0.25", "width")
    channels = [parse_network(name).channels for name in names]
    assert len(set(channels)) == len(channels)
    assert (16, 4, 8, 16) not in channels
    assert channels[-1] == (16, 4, 8, 15)
    assert rival_candidates("resnet-18", "width")[31] == "resnet-18-0.5"


@settings(max_examples=settings().max_examples // 5)
@given(st.sampled_from(list(FIELDS)), st.floats(0, 1))
def test_the_largest_that_fits(measure, share):
    names = rival_candidates("wrn-10-2", "width")
    smallest, largest = (measured(name, measure) for name in (names[0], names[-1]))
    budget = limit(measure, smallest + share * (largest - smallest))
    found = rival("wrn-10-2", "width", budget, 10, SHAPE)
    assert budget[0].allows(measured(found, measure))
    for larger in names[names.index(found) + 1 :][:3]:
        assert not budget[0].allows(measured(larger, measure))


def test_peak_memory_falls_where_the_first_shortcut_is_not_needed():
    peaks = {name: measured(name, "peak") for name in ("wrn-10-0.9375", "wrn-10-1", "wrn-10-1.0625")}
    assert peaks["wrn-10-1"] < peaks["wrn-10-0.9375"] < peaks["wrn-10-1.0625"]
    assert rival("wrn-10-2", "width", limit("peak", peaks["wrn-10-1"]), 10, SHAPE) == "wrn-10-1"


def test_depth_under_a_budget():
    sizes = {name: measured(name, "parameters") for name in ("wrn-10-1", "wrn-16-1", "wrn-22-1")}
    for name, size in sizes.items():
        assert rival("wrn-28-1", "depth", limit("parameters", size), 10, SHAPE) == name
    assert rival("wrn-28-1", "depth", limit("parameters", sizes["wrn-16-1"] - 1), 10, SHAPE) == "wrn-10-1"


def test_resnets():
    budgets = parse_budgets(["1MB", "10M macs"])
    found = rival("torchvision/resnet18", "width", budgets, 10, (3, 32, 32))
    names = rival_candidates("resnet-18", "width")
    larger = names[names.index(found) + 1]
    fits = {
        name: all(budget.allows(measured(name, budget.measure, (3, 32, 32))) for budget in budgets)
        for name in (found, larger)
    }
    assert fits == {found: True, larger: False}


def test_a_budget_beyond_the_teacher_still_gives_a_smaller_network():
    assert rival("wrn-10-1", "width", parse_budgets("1GB"), 10, SHAPE) == "wrn-10-0.984375"
    assert rival("wrn-16-1", "depth", parse_budgets("1GB"), 10, SHAPE) == "wrn-10-1"


def test_other_measures_are_asked_of_a_real_network_and_only_where_the_rest_fits():
    asked = []

    def size(module, measure):
        assert not any(parameter.is_meta for parameter in module.parameters())
        asked.append((measure, sum(parameter.numel() for parameter in module.parameters())))
        return 4 * asked[-1][1]

    budgets = (*limit("parameters", 40_000), *limit("onnx", 100_000))
    found = rival("wrn-10-1", "width", budgets, 10, SHAPE, size)
    assert found == rival("wrn-10-1", "width", limit("parameters", 25_000), 10, SHAPE)
    assert {measure for measure, _ in asked} == {"onnx"}
    assert max(parameters for _, parameters in asked) <= 40_000


@pytest.mark.parametrize(
    ("teacher", "scale", "budget", "message"),
    [
        (
            "torchvision/vgg16",
            "width",
            "1MB",
            ["torchvision/vgg16", "no family", "torchvision/resnet18", "torchvision/resnet34", "wrn-"],
        ),
        ("my_nets:build", "depth", "1MB", ["my_nets:build", "no family"]),
        ("vgg-16", "depth", "1MB", ["vgg-16", "not a valid", "wrn-"]),
        ("wrn-16-1", "size", "1MB", ["scale", "size", "width", "depth"]),
        ("wrn-10-1", "depth", "1MB", ["wrn-10-1", "smaller in depth"]),
        ("resnet-10", "depth", "1MB", ["resnet-10", "smaller in depth"]),
        (
            "wrn-10-1",
            "width",
            ["300 params", "1GB"],
            ["wrn-10-1", "width", "300 params", "1GB", "wrn-10-0.03125", "(trainable parameters)"],
        ),
        ("wrn-16-1", "depth", "1kB", ["wrn-10-1", "MB", "safetensors"]),
        (
            "wrn-16-1",
            "depth",
            "3ms",
            ["3ms", "CPU latency", "measured"],
        ),
    ],
)
def test_rivals_that_cannot_be(teacher, scale, budget, message):
    with pytest.raises(MoonshineError, match=naming(*message)):
        rival(teacher, scale, parse_budgets(budget), 10, SHAPE)
