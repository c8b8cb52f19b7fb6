"""``moonshine.plan`` of a network in Python, and of torchvision's detectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import moonshine
from moonshine import MoonshineError
from moonshine.calls import plan_measurements
from moonshine.formats.sizes import exported_bytes
from tests.messages import names, naming

SHAPE = (3, 8, 8)
BLOCKS = ("G(4)", "B(2)")


def net() -> nn.Sequential:
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
              nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
              nn.Linear(32, 5)]  # fmt: skip
    return nn.Sequential(*layers)


def test_every_row_is_the_cost_of_the_student_that_substitute_makes() -> None:
    network = net()
    before = {name: own.clone() for name, own in network.state_dict().items()}
    plan = moonshine.plan(network, "5k params", SHAPE, blocks=BLOCKS, latency=False)
    assert list(plan.table.index[:3]) == ["teacher", "G(4)", "B(2)"]
    assert set(plan.table) >= {"parameters", "macs", "fp32", "peak", "fits"}
    for name, row in plan.table.iterrows():
        student = moonshine.substitute(network, plan.blocks[name], input_shape=SHAPE)
        found = moonshine.cost(student, SHAPE)
        assert (row.parameters, row.macs, row.fp32) == (found.parameters, found.macs, found.bytes)
        assert row.fits == (found.parameters <= 5000)
    assert all(torch.equal(own, before[name]) for name, own in network.state_dict().items())
    assert names(str(plan), "Sequential at 3x8x8, 5 classes", "5k params", "teacher", "B(2)")


def test_the_bytes_of_a_file_are_those_of_the_exported_student() -> None:
    network = net()
    plan = moonshine.plan(network, "100kB torch-export", SHAPE, blocks=["B(2)"], latency=False)
    student = moonshine.substitute(network, plan.blocks["B(2)"])
    assert plan.table.loc["B(2)", "torch-export"] == exported_bytes("torch-export", student, SHAPE)


def test_latencies_of_a_network_without_a_name_are_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_measurements, "cached", lambda *_, **__: pytest.fail("cached"))
    plan = moonshine.plan(net(), "5k params", SHAPE, blocks=BLOCKS)
    assert (plan.table["latency"] > 0).all()


def test_a_network_may_be_given_by_its_name() -> None:
    plan = moonshine.plan(
        "wrn-10-1", ["60k params", "9M macs"], SHAPE, num_classes=10, blocks=BLOCKS, latency=False
    )
    assert plan.table.loc["teacher", "parameters"] == 77_850


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"budget": "12 bananas"}, ["12 bananas", "1.2MB"]),
        ({"budget": "9 params"}, ["9 params", "smallest"]),
        ({"budget": "15ms", "latency": False}, ["budget", "15ms", "latencies"]),
        ({"input_shape": (8, 8)}, ["input_shape", "(8, 8)", "(channels, height, width)"]),
        ({"blocks": ["Q(2)"]}, ["Q", "paper"]),
        ({"model": "wrn-10-1"}, ["num_classes", "wrn-10-1"]),
        ({"model": 7}, ["model", "int", "Module"]),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(192, 2))}, ["Sequential", "no convolution"]),
        ({"include": ["9.*"]}, ["9.*", "matches no convolution"]),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], said: list[object]) -> None:
    given: dict[str, Any] = {"model": net(), "budget": "5k params", "input_shape": SHAPE, "blocks": BLOCKS}
    with pytest.raises(MoonshineError, match=naming(*said)):
        moonshine.plan(**{"latency": False, **given, **arguments})


def detector(name: str) -> nn.Module:
    """One of torchvision's detectors for 3 classes, of small images, on a backbone without weights."""
    from torchvision.models import detection

    build = getattr(detection, name)
    return build(weights=None, weights_backbone=None, num_classes=3, **SIZES.get(name, {})).eval()


SIZES = {
    name: {"min_size": 32, "max_size": 32} for name in ("retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn")
}


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn", "ssd300_vgg16"])
def test_a_detector_is_planned_and_substituted(name: str) -> None:
    teacher, heads = detector(name), ["*head*"]
    plan = moonshine.plan(teacher, "40M params", (3, 32, 32), blocks=["G(4)"], exclude=heads, latency=False)
    student = moonshine.substitute(teacher, plan.blocks["G(4)"], input_shape=(3, 32, 32))
    parameters = sum(own.numel() for own in student.parameters() if own.requires_grad)
    assert plan.table.loc["G(4)", "parameters"] == parameters < plan.table.loc["teacher", "parameters"]
    assert not any("head" in path for path in plan.blocks["G(4)"])
    losses = student.train()(
        [torch.rand(3, 32, 32)] * 2,
        [{"boxes": torch.tensor([[1.0, 1.0, 20.0, 20.0]]), "labels": torch.tensor([1])}] * 2,
    )
    assert all(value.isfinite() for value in losses.values())
