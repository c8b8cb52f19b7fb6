"""Blocks that split a convolution into one over pixels and one over channels, with nothing between them.

Sources: Chollet, "Xception", CVPR 2017 (keras-team/keras-applications); Sainath et al., "Low-rank Matrix Factorization
for Deep Neural Network Training", 2013, whose factorisation of a matrix is here that of a convolution's channels.
"""

from __future__ import annotations

from moonshine.blocks.expressions import Chain, Conv, Expression
from moonshine.blocks.families.kind import Kind, narrowed
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import Parameter


def separable(place: Geometry) -> Expression:
    """XCEP: depthwise kxk, then 1x1, linear; G(N) has batch norm and ReLU between them."""
    width = place.in_channels
    return Chain(place.spatial(width, width, groups=width), Conv(width, place.out_channels))


def low_rank(place: Geometry, r: int) -> Expression:
    """LR(r): kxk to N/r, then 1x1 to N, linear."""
    middle = narrowed(r, place.out_channels)
    return Chain(place.spatial(place.in_channels, middle), Conv(middle, place.out_channels))


KINDS = (Kind("XCEP", (), separable), Kind("LR", (Parameter("r"),), low_rank))
