"""Blocks whose dense weights are computed from fewer numbers: they save bytes, not multiply-accumulates.

Sources: Garipov, Podoprikhin, Novikov, Vetrov, "Ultimate Tensorization: Compressing Convolutional and FC Layers Alike",
2016, the proposed form (timgaripov/TensorNet-TF; TT); BayesWatch/deficient-efficient (STT, STUCK).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from moonshine.blocks.expressions import Conv, Expression, Generator
from moonshine.blocks.families.kind import Kind, divisors
from moonshine.blocks.families.tied import SHARE, depthwise_and
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import Parameter
from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED_MODES = {128: (4, 8, 4)}


@dataclass(frozen=True)
class TensorTrain(Generator):
    """A kernel (k k, c1 s1, c2 s2, c3 s3) as a train of four cores, for channels c1 c2 c3 in and s1 s2 s3 out.

    The first core is a bank of filters that all channels share. Ranks are at most ``rank``, and at most what the kernel
    can have.
    """

    rank: int

    def shapes(self, conv: Conv) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the cores, (rank before, size, rank after)."""
        pairs = zip(modes(conv.in_channels), modes(conv.out_channels), strict=True)
        sizes = [math.prod(conv.kernel), *(inputs * outputs for inputs, outputs in pairs)]
        found, before = [], 1
        for index, size in enumerate(sizes):
            behind = min(self.rank, before * size, math.prod(sizes[index + 1 :]))
            found.append((before, size, behind))
            before = behind
        return tuple(found)

    def materialise(self, conv: Conv, factors: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
        """Compute the kernel (out, in, rows, columns), core by core."""
        kernel = factors[0].flatten(0, 1)
        for core in factors[1:]:
            before, _, behind = core.shape
            kernel = (kernel @ core.reshape(before, -1)).reshape(-1, behind)
        (c1, c2, c3), (s1, s2, s3) = modes(conv.in_channels), modes(conv.out_channels)
        kernel = kernel.reshape(-1, c1, s1, c2, s2, c3, s3).permute(2, 4, 6, 1, 3, 5, 0)
        return kernel.reshape(conv.out_channels, conv.in_channels, *conv.kernel)


@dataclass(frozen=True)
class FlatTrain(Generator):
    """A 1x1 (out, in) written as one line of numbers, cut into three sizes, as a train of three cores."""

    share: Fraction

    def shapes(self, conv: Conv) -> tuple[tuple[int, ...], ...]:
        first, second, third = cut(conv.out_channels * conv.in_channels)
        before, behind = _share(self.share, min(first, second)), _share(self.share, min(second, third))
        return (first, before), (before, second, behind), (behind, third)

    def materialise(self, conv: Conv, factors: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
        first, second, third = factors
        line = (first @ second.flatten(1)).reshape(-1, third.shape[0]) @ third
        return line.reshape(conv.out_channels, conv.in_channels, 1, 1)


@dataclass(frozen=True)
class Tucker(Generator):
    """A 1x1 cut as in `FlatTrain`: a core of three ranks, and a matrix for each size."""

    share: Fraction

    def shapes(self, conv: Conv) -> tuple[tuple[int, ...], ...]:
        sizes = cut(conv.out_channels * conv.in_channels)
        ranks = tuple(_share(self.share, size) for size in sizes)
        return (ranks, *zip(sizes, ranks, strict=True))

    def materialise(self, conv: Conv, factors: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
        core, first, second, third = factors
        line = (first @ core.flatten(1)).unflatten(1, core.shape[1:])
        line = (second @ line) @ third.T
        return line.reshape(conv.out_channels, conv.in_channels, 1, 1)


def cut(count: int) -> tuple[int, int, int]:
    """Three sizes of so many numbers: twice the smallest divisor from the cube root, and the rest."""
    first = next(size for size in divisors(count) if size**3 >= count)
    second = next(size for size in divisors(count // first) if size**3 >= count or size == count // first)
    return first, second, count // first // second


def _share(share: Fraction, size: int) -> int:
    return max(1, round(share * size))


def modes(width: int) -> tuple[int, int, int]:
    """Return three factors of a width, ascending, with the smallest sum; of 128 the published ones."""
    return PUBLISHED_MODES.get(width) or min(_triples(width), key=sum, default=(1, 1, width))


def is_factorable(width: int) -> bool:
    """Whether a width has three factors of at least 2, none above its square root."""
    first, _, last = sorted(modes(width))
    return first > 1 and last**2 <= width


def tensor_train(place: Geometry, r: int) -> Expression:
    """TT(r): the convolution itself, its kernel a tensor train of rank r."""
    for width in (place.in_channels, place.out_channels):
        if not is_factorable(width):
            near = sorted(filter(is_factorable, range(1, 2 * width + 16)), key=lambda each: abs(each - width))
            raise MoonshineError(
                f"a tensor train cannot factor {width} channels into three near each other; allowed: "
                f"{', '.join(map(str, sorted(near[:4])))} or another such width"
            )
    return place.spatial(place.in_channels, place.out_channels, weight=TensorTrain(r))


def _triples(width: int) -> list[tuple[int, int, int]]:
    return [
        (first, second, width // first // second)
        for first in divisors(width)
        for second in divisors(width // first)
        if first <= second <= width // first // second
    ]


def separable_tensor_train(place: Geometry, p: Fraction) -> Expression:
    """STT(p): depthwise kxk, and a 1x1 that is a tensor train with ranks of a share p of its sizes, 1 at least."""
    return depthwise_and(place, FlatTrain(p))


def separable_tucker(place: Geometry, p: Fraction) -> Expression:
    """STUCK(p): depthwise kxk, and a 1x1 that is a Tucker decomposition with ranks of a share p of its sizes.

    The authors' core is larger.
    """
    return depthwise_and(place, Tucker(p))


KINDS = (
    Kind("TT", (Parameter("r"),), tensor_train),
    Kind("STT", (SHARE,), separable_tensor_train),
    Kind("STUCK", (SHARE,), separable_tucker),
)
