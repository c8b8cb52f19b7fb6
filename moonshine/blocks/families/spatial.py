"""Blocks that factor or thin the window of a convolution.

Sources: Jaderberg, Vedaldi, Zisserman, "Speeding up Convolutional Neural Networks with Low Rank Expansions", 2014,
schemes 2 (LRE) and 1 (LRE1); Jin, Dundar, Culurciello, "Flattened Convolutional Neural Networks", 2014
(jhjin/flattened-cnn); Romera et al., "ERFNet", 2018; ``Conv2x2`` of the released code (BayesWatch/pytorch-moonshine);
Yu, Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions", 2016; Lin, Chen, Yan, "Network in Network", 2014.
"""

from __future__ import annotations

from dataclasses import replace

from moonshine.blocks.expressions import Chain, Conv, Expression, Generator, Padding
from moonshine.blocks.families.kind import Kind, narrowed
from moonshine.blocks.families.tied import Repeated
from moonshine.blocks.geometry import Geometry, along
from moonshine.blocks.notation import ONCE, Parameter
from moonshine.errors import MoonshineError


def low_rank_expansion(place: Geometry, r: int, relu: str = "") -> Expression:
    """LRE(r): kx1 to N/r, then 1xk to N, linear; with ``relu``, batch norm and ReLU between them."""
    middle = narrowed(r, place.out_channels)
    first, second = _split(place)
    return Chain(
        replace(first, out_channels=middle, joint="norm+relu" if relu else "linear"),
        replace(second, in_channels=middle, out_channels=place.out_channels),
    )


def separable_filters(place: Geometry, m: int, shared: str = "") -> Expression:
    """LRE1(m): depthwise kx1 and 1xk, m pairs a channel, then a 1x1; with ``shared``, the same m for every channel."""
    inputs, width = place.in_channels, m * place.in_channels
    first, second = _split(place, Repeated(m) if shared else None)
    return Chain(
        replace(first, out_channels=width, groups=inputs),
        replace(second, in_channels=width, out_channels=width, groups=width),
        Conv(width, place.out_channels),
    )


def flattened(place: Geometry, l: int) -> Expression:  # noqa: E741
    """FLAT(l): l times a 1x1 to N, a depthwise kx1 and a depthwise 1xk, linear; the first ones have the stride."""
    outputs, stages = place.out_channels, []
    for index in range(l):
        here = place.again() if index else place
        split = [
            replace(each, in_channels=outputs, out_channels=outputs, groups=outputs) for each in _split(here)
        ]
        stages.append(Chain(Conv(here.in_channels, outputs), *split))
    return Chain(*stages)


def non_bottleneck_1d(place: Geometry) -> Expression:
    """NB1D: kx1, ReLU, 1xk, each with a bias, as ERFNet writes its convolutions."""
    first, second = _split(place)
    outputs = place.out_channels
    return Chain(
        replace(first, out_channels=outputs, joint="relu"),
        replace(second, in_channels=outputs, out_channels=outputs, bias=True),
    )


def dilated(place: Geometry, d: int) -> Expression:
    """DIL(d): the convolution itself with d times the dilation, padded so that maps have the same size."""
    dilation = (d * place.dilation[0], d * place.dilation[1])
    more = [
        (d - 1) * dilated * (size - 1) for dilated, size in zip(place.dilation, place.kernel, strict=True)
    ]
    if any(each % 2 for each in more):
        rows, columns = place.kernel
        raise MoonshineError(f"it cannot pad a kernel of {rows}x{columns} evenly; allowed: an odd one")
    padding: Padding = place.padding
    if not isinstance(padding, str):
        padding = (padding[0] + more[0] // 2, padding[1] + more[1] // 2)
    if padding == "valid" and d > 1:
        raise MoonshineError('it cannot pad what has a padding of "valid"; allowed: "same" or pixels')
    wider = replace(place, dilation=dilation, padding=padding)
    return wider.spatial(place.in_channels, place.out_channels)


def mlp_convolution(place: Geometry, b: int) -> Expression:
    """NIN(b): kxk to M = N/b, 1x1, 1x1 to N, batch norm and ReLU between them. b = 1 is dearer than S."""
    middle = narrowed(b, place.out_channels)
    return Chain(
        place.spatial(place.in_channels, middle, joint="norm+relu"),
        Conv(middle, middle, joint="norm+relu"),
        Conv(middle, place.out_channels),
    )


def _split(place: Geometry, weight: Generator | None = None) -> tuple[Conv, Conv]:
    """The place's convolution as a kx1 and a 1xk, of the place's channels in."""
    rows, columns = place.kernel
    if min(rows, columns) < 2:
        raise MoonshineError(f"it cannot split a kernel of {rows}x{columns}; allowed: 2x2 or larger")
    whole = replace(place, factorised=False).spatial(place.in_channels, place.in_channels, weight=weight)
    assert isinstance(whole, Conv)
    return along(whole, 0), along(whole, 1)


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
    Kind(
        "LRE1",
        (Parameter("m"), Parameter("shared", whole=False, words=("shared",), optional=True)),
        separable_filters,
    ),
    Kind("FLAT", (Parameter("l"),), flattened),
    Kind("NB1D", (), non_bottleneck_1d),
    Kind("D2x2", (), corners),
    Kind("DIL", (Parameter("d"),), dilated),
    Kind("NIN", (Parameter("b"), ONCE), mlp_convolution),
)
