"""Blocks with parallel convolutions.

Sources: Iandola et al., "SqueezeNet", 2016, and its released networks (forresti/SqueezeNet), which have neither batch
norm nor a residual sum; Li et al., "SEP-Nets", 2017 (zli79/SEP-Nets).
"""

from __future__ import annotations

from dataclasses import replace

from moonshine.blocks.expressions import Branches, Chain, Conv, Expression, Joint
from moonshine.blocks.families.kind import Kind, common_groups, narrowed
from moonshine.blocks.families.tied import Binary
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import ONCE, Parameter
from moonshine.errors import MoonshineError


def fire(place: Geometry, r: int) -> Expression:
    """FIRE(r): 1x1 to N/r, then a 1x1 and a kxk to N/2 each, concatenated; both have the stride. Published: r = 8."""
    place.check_resolution()
    outputs = place.out_channels
    if outputs % 2:
        raise MoonshineError(f"it cannot halve N = {outputs} output channels; allowed: an even number")
    squeezed, half = narrowed(r, outputs), outputs // 2
    return Chain(
        Conv(place.in_channels, squeezed, joint="norm+relu"),
        Branches("concat", Conv(squeezed, half, stride=place.stride), place.spatial(squeezed, half)),
    )


def pattern_residual(place: Geometry, g: int, binary: str = "", joint: Joint = "linear") -> Expression:
    """PRB(g): a kxk and a 1x1, both in g groups, added; with ``bin``, the kxk has fixed signs and a scale a filter.

    The authors binarise the kxk of a trained network and train on; here its signs are fixed before training. Without
    ``bin`` it could be folded into one kxk.
    """
    place.check_resolution()
    inputs, outputs = place.in_channels, place.out_channels
    common_groups(g, {"in": inputs, "N": outputs})
    point = Conv(inputs, outputs, stride=place.stride, groups=g)
    weight = Binary(decay="none") if binary else None
    return Branches("add", place.spatial(inputs, outputs, groups=g, weight=weight), point, joint=joint)


def sep_module(place: Geometry, g: int, b: int) -> Expression:
    """SEPN(g,b): 1x1 to M = N/b, PRB, PRB, 1x1 to N, all in g groups."""
    middle = narrowed(b, place.out_channels)
    common_groups(g, {"in": place.in_channels, "M": middle, "N": place.out_channels})
    inside = replace(place, in_channels=middle, out_channels=middle)
    return Chain(
        Conv(place.in_channels, middle, groups=g, joint="norm+relu"),
        pattern_residual(inside, g, joint="norm+relu"),
        pattern_residual(inside.again(), g, joint="norm+relu"),
        Conv(middle, place.out_channels, groups=g),
    )


KINDS = (
    Kind("FIRE", (Parameter("r"), ONCE), fire),
    Kind(
        "PRB",
        (Parameter("g"), Parameter("bin", whole=False, words=("bin",), optional=True)),
        pattern_residual,
    ),
    Kind("SEPN", (Parameter("g"), Parameter("b")), sep_module, "pair", alone="PRB(g)"),
)
