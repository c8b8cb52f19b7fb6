"""Blocks that shuffle channels between grouped 1x1 convolutions.

Source: Zhang et al., "ShuffleNet", CVPR 2018. Here the shortcut is the residual block's own, not a pooled
concatenation, and the last batch norm is the one after the block. The shuffle is the paper's; the released code
(megvii-model/ShuffleNet-Series) has the inverse permutation, after the depthwise convolution.
"""

from __future__ import annotations

from moonshine.blocks.expressions import Chain, Conv, Expression, Shuffle
from moonshine.blocks.families.kind import Kind, divisors, narrowed
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import Parameter
from moonshine.errors import MoonshineError


def shuffle_unit(place: Geometry, g: int, b: int) -> Expression:
    """SHUF(g,b): 1x1 in g groups to M = N/b, channel shuffle, depthwise kxk, 1x1 in g groups to N."""
    inputs, outputs = place.in_channels, place.out_channels
    middle = narrowed(b, outputs)
    common = [each for each in divisors(inputs) if middle % each == outputs % each == 0]
    if g not in common:
        raise MoonshineError(
            f"{g} groups do not divide all of {inputs} channels in, M = {middle} and N = {outputs}; "
            f"allowed: {', '.join(map(str, common))}"
        )
    return Chain(
        Conv(inputs, middle, groups=g, joint="norm+relu"),
        Shuffle(g),
        place.spatial(middle, middle, groups=middle, joint="norm"),
        Conv(middle, outputs, groups=g),
    )


KINDS = (Kind("SHUF", (Parameter("g"), Parameter("b")), shuffle_unit, "pair"),)
