"""Dense weights whose values are fewer, shared ones, and dense weights of fixed patterns.

Sources: Chen et al., "Compressing Neural Networks with the Hashing Trick", 2015, as BayesWatch/deficient-efficient has
it for convolutions, without signs (HASH, SHASH); Wang, Liu, Foroosh, "Factorized Convolutional Neural Networks", 2017
(TOPO); Denil et al., "Predicting Parameters in Deep Learning", 2013 (PRED); Cohen, Welling, "Group Equivariant
Convolutional Networks", 2016 (tscohen/GrouPy; GEQ); Li et al., "SEP-Nets", 2017 (PRB with ``bin``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moonshine.blocks.expressions import Chain, Conv, Expression, Generator
from moonshine.blocks.families.constants import permutation, random_bits, random_signs
from moonshine.blocks.families.kind import Kind, divisors, rank
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import Parameter
from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Repeated(Generator):
    """Depthwise filters, the same ``filters`` for every channel."""

    filters: int

    def shapes(self, conv: Conv) -> tuple[tuple[int, ...], ...]:
        return ((self.filters, 1, *conv.kernel),)

    def materialise(self, conv: Conv, factors: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
        return factors[0].repeat(conv.out_channels // self.filters, 1, 1, 1)


@dataclass(frozen=True)
class Binary(Generator):
    """A kernel of fixed random signs, with one scale for each filter."""

    def shapes(self, conv: Conv) -> tuple[tuple[int, ...], ...]:
        return ((conv.out_channels, 1, 1, 1),)

    def fixed(self, conv: Conv) -> tuple[NDArray[Any], ...]:
        return (random_signs(conv.out_channels * conv.fan_in).reshape(conv.out_channels, -1, *conv.kernel),)

    def starts(self, conv: Conv, gain: float) -> list[tuple[float, float]]:
        return [(1.0, 0.0)]

    def materialise(self, conv: Conv, factors: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
        return factors[0] * fixed[0]


@dataclass(frozen=True)
class Hashed(Generator):
    """Every weight is a number of a table, drawn once at random; the table has a share of as many as there are."""

    share: Fraction

    def shapes(self, conv: Conv) -> tuple[tuple[int, ...], ...]:
        return ((rank(self.share, conv.fan_in * conv.out_channels),),)

    def fixed(self, conv: Conv) -> tuple[NDArray[Any], ...]:
        count = conv.fan_in * conv.out_channels
        places = random_bits(count) % np.uint64(rank(self.share, count))
        return (places.astype(np.int64).reshape(conv.out_channels, -1, *conv.kernel),)

    def materialise(self, conv: Conv, factors: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
        return factors[0][fixed[0]]


@dataclass(frozen=True)
class Ring(Generator):
    """A 1x1 in which every output sees the 1/d of the inputs that are nearest on a ring of channels."""

    d: int

    def shapes(self, conv: Conv) -> tuple[tuple[int, ...], ...]:
        return ((conv.out_channels, conv.in_channels // self.d),)

    def fixed(self, conv: Conv) -> tuple[NDArray[Any], ...]:
        seen = conv.in_channels // self.d
        centres = np.arange(conv.out_channels) * conv.in_channels // conv.out_channels
        return ((centres[:, None] + np.arange(seen) - seen // 2) % conv.in_channels,)

    def materialise(self, conv: Conv, factors: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
        dense = factors[0].new_zeros(conv.out_channels, conv.in_channels)
        return dense.scatter(1, fixed[0], factors[0])[:, :, None, None]


@dataclass(frozen=True)
class Predicted(Generator):
    """Kernels of which m taps are known, and the others predicted from them by a smooth kernel (ridge regression).

    The taps are drawn once at random; the kernel is squared-exponential in pixels with a width of 1 and no noise, so
    that as many taps as there are leave nothing to predict.
    """

    m: int

    def shapes(self, conv: Conv) -> tuple[tuple[int, ...], ...]:
        return ((conv.out_channels, conv.in_channels // conv.groups, self.m),)

    def fixed(self, conv: Conv) -> tuple[NDArray[Any], ...]:
        pixels = np.stack(np.divmod(np.arange(math.prod(conv.kernel)), conv.kernel[1]), 1)
        alike = np.exp(-((pixels[:, None] - pixels) ** 2).sum(2) / 2)
        known = permutation(len(pixels))[: self.m]
        return (np.linalg.solve(alike[np.ix_(known, known)], alike[known]).astype(np.float32),)

    def materialise(self, conv: Conv, factors: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
        return (factors[0] @ fixed[0]).unflatten(2, conv.kernel)


@dataclass(frozen=True)
class Equivariant(Generator):
    """Kernels between channels in planes of 4 rotations, or of those and their 4 mirror images.

    Output u of a plane is the stored kernel transformed by u: rotations count from 0, mirrored ones from 4.
    """

    elements: int

    def shapes(self, conv: Conv) -> tuple[tuple[int, ...], ...]:
        return ((conv.out_channels // self.elements, conv.in_channels, *conv.kernel),)

    def doubt(self, conv: Conv, rows: int, columns: int) -> str:
        if conv.stride == (1, 1) or (rows % 2 and columns % 2):
            return ""
        step = conv.stride[0]
        return f"GEQ: a stride of {step} on maps of {rows}x{columns} pixels is not equivariant; allowed: odd sizes"

    def materialise(self, conv: Conv, factors: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
        import torch

        stored = factors[0].unflatten(1, (-1, self.elements))
        turned = [
            transformed(stored[:, :, [relative(u, t) for t in range(self.elements)]], u)
            for u in range(self.elements)
        ]
        return torch.stack(turned, 1).reshape(conv.out_channels, conv.in_channels, *conv.kernel)


def transformed(maps: Tensor, element: int) -> Tensor:
    """Maps under an element of the group: mirrored from 4 on, then turned by 90 degrees as often as it says."""
    return (maps.flip(-1) if element >= 4 else maps).rot90(element % 4, (-2, -1))


def relative(u: int, t: int) -> int:
    """The element u^-1 t."""
    turn = (t - u) % 4 if u < 4 else (u - t) % 4
    return 4 * ((u >= 4) != (t >= 4)) + turn


def hashed(place: Geometry, p: Fraction) -> Expression:
    """HASH(p): the convolution itself, its kernel drawn from a table of a share p of its weights."""
    inputs, outputs = place.in_channels, place.out_channels
    rank(p, inputs * outputs * math.prod(place.kernel))
    return place.spatial(inputs, outputs, weight=Hashed(p))


def separable_hashed(place: Geometry, p: Fraction) -> Expression:
    """SHASH(p): depthwise kxk, and a 1x1 drawn from a table of a share p of its weights."""
    rank(p, place.in_channels * place.out_channels)
    return depthwise_and(place, Hashed(p, decay="plain"))


def topological(place: Geometry, d: int) -> Expression:
    """TOPO(d): depthwise kxk, and a 1x1 in which every output sees 1/d of the inputs, those of near channels."""
    if place.in_channels % d:
        raise MoonshineError(
            f"{d} does not divide {place.in_channels} channels in; allowed: "
            f"{', '.join(map(str, divisors(place.in_channels)))}"
        )
    return depthwise_and(place, Ring(d))


def predicted(place: Geometry, m: int) -> Expression:
    """PRED(m): the convolution itself, m taps of every kernel stored and the others predicted from them."""
    if m > math.prod(place.kernel):
        rows, columns = place.kernel
        raise MoonshineError(f"a kernel of {rows}x{columns} has no {m} taps; allowed: 1 to {rows * columns}")
    return replace(place, factorised=False).spatial(
        place.in_channels, place.out_channels, weight=Predicted(m)
    )


def equivariant(place: Geometry, group: str) -> Expression:
    """GEQ(p4), GEQ(p4m): the convolution itself, its kernels a quarter or an eighth, turned and mirrored.

    A network of ordinary layers around it is not equivariant, and a stride of 2 is on odd sizes only.
    """
    elements = 8 if group == "p4m" else 4
    rows, columns = place.kernel
    square = all(one == other for one, other in (place.kernel, place.stride, place.dilation))
    if not square or (elements == 8 and rows % 2 == 0):
        raise MoonshineError(
            f"it cannot turn a kernel of {rows}x{columns}, stride {place.stride}, dilation {place.dilation}; allowed: "
            f"the same in rows and columns{', odd kernels' if elements == 8 else ''}"
        )
    for width in (place.in_channels, place.out_channels):
        if width % elements:
            raise MoonshineError(
                f"{width} channels are no planes of {elements}; allowed: multiples of {elements}"
            )
    return replace(place, factorised=False).spatial(
        place.in_channels, place.out_channels, weight=Equivariant(elements)
    )


def depthwise_and(place: Geometry, weight: Generator) -> Expression:
    """A depthwise kxk, and a 1x1 whose weight is generated."""
    inputs = place.in_channels
    return Chain(
        place.spatial(inputs, inputs, groups=inputs), Conv(inputs, place.out_channels, weight=weight)
    )


SHARE = Parameter("p", whole=False, fraction=True)

KINDS = (
    Kind("HASH", (SHARE,), hashed),
    Kind("SHASH", (SHARE,), separable_hashed),
    Kind("TOPO", (Parameter("d"),), topological),
    Kind("PRED", (Parameter("m"),), predicted),
    Kind("GEQ", (Parameter("group", whole=False, words=("p4", "p4m")),), equivariant),
)
