"""Presets of blocks for a search: what is in them, and what may be asked for."""

from __future__ import annotations

import pytest

from moonshine import MoonshineError
from moonshine.blocks.expressions import Conv, layers
from moonshine.blocks.presets import PRESETS, choices
from moonshine.blocks.registry import KINDS, PAPER, parse_block, plan_block
from moonshine.networks.families import parse_network
from tests.messages import naming


def test_the_default_is_the_papers_blocks() -> None:
    assert choices(None) == choices("paper") == ("S", *PAPER)


def test_all_has_every_kind() -> None:
    assert {parse_block(block).kind for block in choices("all")} == KINDS.keys()


@pytest.mark.parametrize("block", PRESETS["separable"])
def test_separable_blocks_are_depthwise_in_space(block: str) -> None:
    site = parse_network("wrn-40-2").sites[1]
    convs = [
        layer
        for unit in plan_block(block, site.convolutions).units
        for layer in layers(unit)
        if isinstance(layer, Conv)
    ]
    assert all(conv.groups == conv.in_channels for conv in convs if conv.kernel != (1, 1))
    assert not any(conv.weight for conv in convs if conv.kernel != (1, 1))


def test_presets_and_blocks_go_together_and_count_once() -> None:
    assert choices(["SHUF(2,4)", "paper", "G-4", "S"]) == ("S", "SHUF(2,4)", *PAPER)


@pytest.mark.parametrize(("found", "said"), [("cheap", "cheap"), (["G(4)", "Q(4)"], "Q(4)")])
def test_what_is_neither_a_block_nor_a_preset(found: str | list[str], said: str) -> None:
    with pytest.raises(MoonshineError, match=naming(said, "G(g)", "paper, separable, small, all")):
        choices(found)
