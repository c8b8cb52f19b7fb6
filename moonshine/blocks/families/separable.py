"""Depthwise convolutions, and 1x1 ones that mix channels, as published systems arrange them.

Sources: Chollet, "Xception", 2017; Howard et al., "MobileNets", 2017; Zoph et al., "Learning Transferable
Architectures", 2018 (NASNet, tensorflow/models); Xie et al., "ResNeXt", 2017; Wang, Liu, Foroosh, "Factorized
Convolutional Neural Networks", 2017 (BASE, SIC, SBOT); Turner et al., "BlockSwap", 2020, and its released code (MBX,
D3).
"""

from __future__ import annotations

from fractions import Fraction

from moonshine.blocks.expressions import AcrossChannels, Branches, Chain, Conv, Expression, Identity, Joint
from moonshine.blocks.families.grouped import around
from moonshine.blocks.families.kind import Kind, scaled
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import ONCE, Parameter
from moonshine.errors import MoonshineError, first_few


def separable(place: Geometry, b: int = 1, joint: Joint = "linear") -> Chain:
    """XCEP, BASE(b): depthwise kxk with b filters a channel (XCEP: one), then a 1x1, nothing between them."""
    inputs = place.in_channels
    cheap = place.spatial(inputs, b * inputs, groups=inputs)
    return Chain(cheap, Conv(b * inputs, place.out_channels, joint=joint))


def twice_separable(place: Geometry) -> Expression:
    """NAS: a separable convolution, batch norm and ReLU, and a second one."""
    return Chain(separable(place, joint="norm+relu"), separable(place.again()))


def single_intra_channel(place: Geometry, n: int) -> Expression:
    """SIC(n): n separable convolutions, each plus its input where sizes agree, batch norm and ReLU between."""
    units: list[Expression] = []
    for index in range(n):
        here = place.again() if index else place
        joint: Joint = "linear" if index == n - 1 else "norm+relu"
        if here.in_channels == here.out_channels and here.stride == (1, 1) and here.keeps_resolution:
            units.append(Branches("add", Identity(), separable(here), joint=joint))
        else:
            units.append(separable(here, joint=joint))
    return Chain(*units)


def mobile(place: Geometry, a: int | Fraction) -> Expression:
    """MOB(a): both convolutions of a residual block as G(N) has them, aN channels between them."""
    middle, inputs, outputs = scaled(a, place.out_channels, "a"), place.in_channels, place.out_channels
    return Chain(
        place.spatial(inputs, inputs, groups=inputs, joint="norm+relu"),
        Conv(inputs, middle, joint="norm+relu"),
        place.again().spatial(middle, middle, groups=middle, joint="norm+relu"),
        Conv(middle, outputs),
    )


def aggregated(place: Geometry, groups: int, m: int | Fraction) -> Expression:
    """RXT(C,m): 1x1 to M = mN, kxk in C groups, 1x1 to N; BG(b,C) with an M that may be wider than N."""
    return around(place, scaled(m, place.out_channels, "m"), groups)


def inverted(place: Geometry, e: int) -> Expression:
    """MBX(e): 1x1 to e times the channels in, depthwise kxk, 1x1 to N, batch norm."""
    middle = e * place.in_channels
    return Chain(
        Conv(place.in_channels, middle, joint="norm+relu"),
        place.spatial(middle, middle, groups=middle, joint="norm+relu"),
        Conv(middle, place.out_channels, joint="norm"),
    )


def three_dimensional(place: Geometry) -> Expression:
    """D3: depthwise kxk, and N filters of three taps along the channels, their maps averaged over the channels.

    Executed as published; it is equal to a 1x1 of three numbers for each output, and costs three times as much.
    """
    inputs = place.in_channels
    cheap = place.spatial(inputs, inputs, groups=inputs, joint="norm+relu")
    return Chain(cheap, AcrossChannels(place.out_channels))


def spatial_bottleneck(place: Geometry, f: int) -> Expression:
    """SBOT(f): depthwise fxf with stride f, 1x1, and a depthwise transposed fxf back to the size that is due.

    Where the stride is f already, a depthwise kxk takes the place of the last. Maps have to be divisible by f.
    """
    (rows, columns), inputs, outputs = place.stride, place.in_channels, place.out_channels
    place.check_resolution()
    if place.dilation != (1, 1):
        raise MoonshineError(f"its window has no dilation of {place.dilation}; allowed: 1")
    if rows != columns:
        raise MoonshineError(
            f"its window has no stride of {rows}x{columns}; allowed: as many columns as rows"
        )
    fitting = [
        each for each in range(2, 33) if each % rows == 0 and (each == rows or (each - each // rows) % 2 == 0)
    ]
    if f not in fitting:
        raise MoonshineError(
            f"a factor of {f} does not fit a stride of {rows}; allowed: {first_few(fitting, 6)}, up to {fitting[-1]}"
        )
    up = f // rows
    back = (
        place.again().spatial(outputs, outputs, groups=outputs)
        if up == 1
        else Conv(
            outputs, outputs, (f, f), (up, up), padding=((f - up) // 2,) * 2, groups=outputs, transposed=True
        )
    )
    return Chain(Conv(inputs, inputs, (f, f), (f, f), groups=inputs, exact=True), Conv(inputs, outputs), back)


KINDS = (
    Kind("XCEP", (), separable),
    Kind("NAS", (ONCE,), twice_separable),
    Kind("BASE", (Parameter("b"),), separable),
    Kind("SIC", (Parameter("n"),), single_intra_channel),
    Kind("MOB", (Parameter("a", fraction=True),), mobile, "pair", alone="G(g)"),
    Kind("RXT", (Parameter("C"), Parameter("m", fraction=True)), aggregated, "pair", alone="BG(b,g)"),
    Kind("MBX", (Parameter("e"),), inverted, "pair", alone="BG(b,g)"),
    Kind("D3", (), three_dimensional),
    Kind("SBOT", (Parameter("f"),), spatial_bottleneck),
)
