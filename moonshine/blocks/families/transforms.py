"""1x1 convolutions and kernels made of diagonals between fixed orthogonal transforms.

Sources: Moczulski et al., "ACDC: A Structured Efficient Linear Layer", 2016, in the form of gngdb/pytorch-acdc, which
shuffles inside and between layers; Yang et al., "Deep Fried Convnets", 2015, whose adaptive form learns all diagonals.
Their diagonals have no weight decay, which would take them to 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from moonshine.blocks.expressions import Branches, Chain, Conv, Expression, Generator, Identity
from moonshine.blocks.families.constants import cosines, hadamard, permutation, random_signs, riffle
from moonshine.blocks.families.kind import Kind, divisors
from moonshine.blocks.families.tied import depthwise_and
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import Parameter
from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CosineDiagonals(Generator):
    """A 1x1 of ``layers`` layers A C D C^-1: diagonals A and D, the cosine transform C, a riffle behind each."""

    layers: int

    def shapes(self, conv: Conv) -> tuple[tuple[int, ...], ...]:
        return ((conv.in_channels,),) * (2 * self.layers)

    def fixed(self, conv: Conv) -> tuple[NDArray[Any], ...]:
        return cosines(conv.in_channels), riffle(conv.in_channels)

    def starts(self, conv: Conv, gain: float) -> list[tuple[float, float]]:
        mean = gain ** (0.25 / self.layers)
        return [(mean, 0.01 * mean)] * (2 * self.layers)

    def materialise(self, conv: Conv, factors: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
        transform, order = fixed
        rows = factors[0].diag()
        for index, diagonal in enumerate(factors):
            rows = rows * diagonal if index else rows
            rows = (rows @ (transform if index % 2 else transform.T))[:, order]
        groups = conv.in_channels // conv.out_channels
        return rows.T.unflatten(0, (groups, -1)).sum(0)[:, :, None, None] / math.sqrt(groups)


@dataclass(frozen=True)
class Fastfood(Generator):
    """S H G P H B on a patch padded to a power of two: diagonals S, G and B, Walsh-Hadamard H, a permutation P.

    B starts as fixed signs; where there are more outputs than the power of two, the rest is stacked.
    """

    def shapes(self, conv: Conv) -> tuple[tuple[int, ...], ...]:
        size = power_of_two(conv.fan_in)
        stacks = -(-conv.out_channels // size)
        return ((stacks, 1, conv.fan_in), (stacks, 1, size), (conv.out_channels,))

    def fixed(self, conv: Conv) -> tuple[NDArray[Any], ...]:
        size = power_of_two(conv.fan_in)
        transform = hadamard(size, size)
        last = (transform * random_signs(size))[permutation(size), : conv.fan_in]
        return hadamard(min(size, conv.out_channels), size), last

    def starts(self, conv: Conv, gain: float) -> list[tuple[float, float]]:
        size = power_of_two(conv.fan_in)
        scale = math.sqrt(gain / conv.fan_in / size)
        return [(1.0, 0.0), (0.0, 1.0), (scale, scale / math.sqrt(2 * size))]

    def materialise(self, conv: Conv, factors: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
        signs, normals, lengths = factors
        rows = ((fixed[0] * normals) @ fixed[1] * signs).flatten(0, 1)[: conv.out_channels]
        return (rows * lengths[:, None]).reshape(conv.out_channels, -1, *conv.kernel)


def power_of_two(width: int) -> int:
    """The smallest power of two that is not below a width."""
    return 1 << (width - 1).bit_length()


def acdc(place: Geometry, k: int) -> Expression:
    """ACDC(k): depthwise kxk, and a 1x1 of k layers; channels are repeated where N is wider, and added where narrower.

    The authors' ACDC_k has k - 1 layers.
    """
    inputs, outputs = place.in_channels, place.out_channels
    narrow, wide = sorted((inputs, outputs))
    if wide % narrow or wide % 2:
        raise MoonshineError(
            f"its square layers cannot go from {inputs} channels to {outputs}; allowed: an even number, and the other "
            f"one of {', '.join(map(str, divisors(wide)))}"
        )
    repeated = [Branches("concat", *[Identity()] * (outputs // inputs))] if outputs > inputs else []
    mix = Conv(wide, outputs, weight=CosineDiagonals(k, decay="none"))
    return Chain(place.spatial(inputs, inputs, groups=inputs), *repeated, mix)


def fried(place: Geometry, whole: str = "") -> Expression:
    """FRIED: depthwise kxk, and a 1x1 of three diagonals; FRIED(k): the kxk itself of three."""
    weight = Fastfood(decay="none")
    if whole:
        return place.spatial(place.in_channels, place.out_channels, weight=weight)
    return depthwise_and(place, weight)


KINDS = (
    Kind("ACDC", (Parameter("k"),), acdc),
    Kind("FRIED", (Parameter("k", whole=False, words=("k",), optional=True),), fried),
)
