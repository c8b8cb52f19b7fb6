"""Residual blocks outside of a network, for tests."""

from __future__ import annotations

from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import Block
from moonshine.blocks.registry import plan_block
from moonshine.blocks.residual import ResidualBlock


def make_block(
    block: str | Block, in_channels: int, out_channels: int, stride: int = 1, path: str = "block"
) -> ResidualBlock:
    """A pre-activation residual block with its shortcut: (n, in, h, w) -> (n, out, h/stride, w/stride)."""
    first = Geometry(in_channels, out_channels, stride=(stride, stride))
    return ResidualBlock(plan_block(block, (first, Geometry(out_channels, out_channels)), path))
