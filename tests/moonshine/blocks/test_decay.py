"""Weight decay: every parameter is in one group, and the scale is the network's compression."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import moonshine
from moonshine.blocks.decay import decay_groups, decay_in_words, decay_scale
from moonshine.blocks.registry import KINDS
from moonshine.structures.build import build
from tests.messages import names
from tests.moonshine.blocks.examples import ONE_OF_EACH

SCALED = ("LSHUF", "LRE1", "TT", "STT", "STUCK", "HASH", "TOPO", "PRED", "GEQ")


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("block", ONE_OF_EACH.values())
def test_groups_are_a_partition_in_the_order_of_the_network(block: str) -> None:
    network = build("wrn-10-1", block)
    groups = decay_groups(network)
    order = {id(parameter): place for place, parameter in enumerate(network.parameters())}
    places = [[order[id(parameter)] for parameter in group] for group in groups.values()]
    assert all(group == sorted(group) for group in places)
    assert sorted(place for group in places for place in group) == list(range(len(order)))
    kind = block.partition("(")[0]
    assert bool(groups["scaled"]) == (kind in SCALED)
    assert bool(groups["none"]) == (kind in ("ACDC", "FRIED", "PRB"))
    assert all(
        ".factors." in name or kind == "LSHUF"
        for name, own in network.named_parameters()
        if own in {*groups["scaled"], *groups["none"]}
    )


def test_groups_in_words() -> None:
    assert (
        decay_in_words(build("wrn-10-1", "S"))
        == f"as the study's for {count(build('wrn-10-1')):,} parameters"
    )
    network = build("wrn-10-1", {"stage1.0": "S", "stage2.0": "TT(2)", "stage3.0": "FRIED"})
    groups = {name: sum(each.numel() for each in group) for name, group in decay_groups(network).items()}
    said = [f"{groups[name]:,} parameters" for name in ("plain", "scaled", "none")]
    assert names(decay_in_words(network), *said, f"times {decay_scale(network):.3g}")


def test_a_kinds_own_group_is_that_of_its_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = KINDS["G"]
    monkeypatch.setitem(KINDS, "G", type(kind)(kind.name, kind.parameters, kind.expression, decay="none"))
    network = build("wrn-10-1", {"stage1.0": "S", "stage2.0": "S", "stage3.0": "G(4)"})
    found = {id(parameter) for parameter in decay_groups(network)["none"]}
    names = [name for name, parameter in network.named_parameters() if id(parameter) in found]
    assert names == [f"stage3.0.branch.conv{number}.weight" for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("network", ["wrn-16-2", "resnet-10-0.25", "erfnet-0.25"])
@pytest.mark.parametrize("block", ["S", "G(4)", "LRE(2)", "B(2)"])
def test_the_scale_is_the_compression(network: str, block: str) -> None:
    with torch.device("meta"):
        student, ordinary = build(network, block), build(network)
    norms = "resnet" in network and block == "B(2)"  # those between the convolutions are narrower too
    assert decay_scale(student) == pytest.approx(
        count(student) / count(ordinary), rel=1e-2 if norms else 1e-12
    )


def test_the_scale_of_a_substituted_network() -> None:
    network = build("wrn-16-2")
    student = moonshine.substitute(network, "TT(4)")
    assert decay_scale(student) == pytest.approx(count(student) / count(network))
