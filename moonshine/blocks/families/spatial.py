"""Blocks that factor or thin the window of a convolution.

Sources: Jaderberg, Vedaldi, Zisserman, "Speeding up Convolutional Neural Networks with Low Rank Expansions", 2014,
scheme 2; ``Conv2x2`` of the released code (BayesWatch/pytorch-moonshine).
"""

from __future__ import annotations

from dataclasses import replace

from moonshine.blocks.expressions import Chain, Conv, Expression
from moonshine.blocks.families.kind import Kind, narrowed
from moonshine.blocks.geometry import Geometry, along
from moonshine.blocks.notation import Parameter
from moonshine.errors import MoonshineError


def low_rank_expansion(place: Geometry, r: int, relu: str = "") -> Expression:
    """LRE(r): kx1 to N/r, then 1xk to N, linear; with ``relu``, batch norm and ReLU between them."""
    rows, columns = place.kernel
    if min(rows, columns) < 2:
        raise MoonshineError(f"it cannot split a kernel of {rows}x{columns}; allowed: 2x2 or larger")
    middle = narrowed(r, place.out_channels)
    whole = Conv(
        place.in_channels,
        middle,
        place.kernel,
        place.stride,
        place.dilation,
        place.padding,
        place.padding_mode,
    )
    return Chain(
        replace(along(whole, 0), joint="norm+relu" if relu else "linear"),
        replace(along(whole, 1), in_channels=middle, out_channels=place.out_channels),
    )


def corners(place: Geometry) -> Expression:
    """D2x2: the four corners of a 3x3 window, a 2x2 kernel with twice the dilation.

    With a stride of 2 three quarters of the pixels are never read.
    """
    if place.kernel != (3, 3):
        rows, columns = place.kernel
        raise MoonshineError(f"it has no kernel of {rows}x{columns}; allowed: 3x3")
    dilation = (2 * place.dilation[0], 2 * place.dilation[1])
    return place.spatial(place.in_channels, place.out_channels, kernel=(2, 2), dilation=dilation)


KINDS = (
    Kind(
        "LRE",
        (Parameter("r"), Parameter("relu", whole=False, words=("relu",), optional=True)),
        low_rank_expansion,
    ),
    Kind("D2x2", (), corners),
)
