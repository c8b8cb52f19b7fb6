"""Blocks with parallel convolutions.

Source: Iandola et al., "SqueezeNet", 2016, and its released networks (forresti/SqueezeNet), which have neither batch
norm nor a residual sum.
"""

from __future__ import annotations

from moonshine.blocks.expressions import Branches, Chain, Conv, Expression
from moonshine.blocks.families.kind import Kind, narrowed
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import ONCE, Parameter
from moonshine.errors import MoonshineError


def fire(place: Geometry, r: int) -> Expression:
    """FIRE(r): 1x1 to N/r, then a 1x1 and a kxk to N/2 each, concatenated; both have the stride. Published: r = 8."""
    if not place.keeps_resolution:
        raise MoonshineError(
            f"its 1x1 has maps of another size than a kernel of {place.kernel[0]}x{place.kernel[1]} with a padding of "
            f"{place.padding}; allowed: an odd kernel with a padding of half of it"
        )
    outputs = place.out_channels
    if outputs % 2:
        raise MoonshineError(f"it cannot halve N = {outputs} output channels; allowed: an even number")
    squeezed, half = narrowed(r, outputs), outputs // 2
    return Chain(
        Conv(place.in_channels, squeezed, joint="norm+relu"),
        Branches("concat", Conv(squeezed, half, stride=place.stride), place.spatial(squeezed, half)),
    )


KINDS = (Kind("FIRE", (Parameter("r"), ONCE), fire),)
