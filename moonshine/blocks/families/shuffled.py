"""Blocks that shuffle channels between grouped 1x1 convolutions.

Source: Zhang et al., "ShuffleNet", CVPR 2018. Here the shortcut is the residual block's own, not a pooled
concatenation, and the last batch norm is the one after the block. The shuffle is the paper's; the released code
(megvii-model/ShuffleNet-Series) has the inverse permutation, after the depthwise convolution. LSHUF is that of
BayesWatch/deficient-efficient, which lowers g silently where it does not divide.
"""

from __future__ import annotations

from moonshine.blocks.expressions import Chain, Conv, Expression, Joint, Shuffle
from moonshine.blocks.families.kind import Kind, common_groups, narrowed
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import Parameter


def shuffle_unit(place: Geometry, g: int, b: int) -> Expression:
    """SHUF(g,b): 1x1 in g groups to M = N/b, channel shuffle, depthwise kxk, 1x1 in g groups to N."""
    return _unit(place, g, narrowed(b, place.out_channels), "norm+relu", "norm")


def linear_shuffle_unit(place: Geometry, g: int) -> Expression:
    """LSHUF(g): SHUF(g,4) for each convolution, with no batch norm and no ReLU inside."""
    return _unit(place, g, narrowed(4, place.out_channels), "linear", "linear")


def _unit(place: Geometry, g: int, middle: int, first: Joint, second: Joint) -> Expression:
    inputs, outputs = place.in_channels, place.out_channels
    common_groups(g, {"in": inputs, "M": middle, "N": outputs})
    return Chain(
        Conv(inputs, middle, groups=g, joint=first),
        Shuffle(g),
        place.spatial(middle, middle, groups=middle, joint=second),
        Conv(middle, outputs, groups=g),
    )


KINDS = (
    Kind("SHUF", (Parameter("g"), Parameter("b")), shuffle_unit, "pair", alone="LSHUF(g)"),
    Kind("LSHUF", (Parameter("g"),), linear_shuffle_unit, decay="scaled"),
)
