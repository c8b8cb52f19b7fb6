"""Expressions: the layers of a cheap convolution as data. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

PerAxis = tuple[int, int]
"""Rows and columns."""

Padding = PerAxis | str
"""Pixels on each side, or torch's "same" or "valid"."""

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]

Joint = Literal["linear", "norm", "norm+relu", "relu"]
"""What follows a convolution: nothing, batch norm, batch norm and ReLU, or ReLU alone, before which it has a bias."""

Decay = Literal["plain", "scaled", "none"]
"""Weight decay of a parameter: the study's; scaled by the network's parameters over those of the same network with
ordinary blocks; none."""


@dataclass(frozen=True)
class Generator:
    """A dense weight computed from fewer numbers, the factors; without torch until it computes.

    ``decay`` is the decay group of the factors.
    """

    decay: Decay = field(default="scaled", kw_only=True)

    def shapes(self, conv: Conv) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the factors."""
        raise NotImplementedError

    def fixed(self, conv: Conv) -> tuple[NDArray[Any], ...]:
        """Return the arrays that never change and that no file holds, such as indices."""
        return ()

    def starts(self, conv: Conv, gain: float) -> list[tuple[float, float]]:
        """Return mean and standard deviation of each new factor, up to one scale for all of them.

        The weight is a product of the factors, which are scaled so that its variance is ``gain`` / fan-in.
        """
        return [(0.0, 1.0)] * len(self.shapes(conv))

    def doubt(self, conv: Conv, rows: int, columns: int) -> str:
        """Return what is not as the kind promises on maps of this size, if anything."""
        return ""

    def materialise(self, conv: Conv, factors: Sequence[Any], fixed: Sequence[Any]) -> Any:
        """Compute the weight (out, in / groups, rows, columns) from factors and fixed tensors, differentiably."""
        raise NotImplementedError


@dataclass(frozen=True)
class Conv:
    """One convolution and the joint behind it; ``weight`` generates its weight where it is not stored.

    ``bias``: it has one of its own, whether or not its place ends with one. ``exact``: only maps that the stride
    divides.
    """

    in_channels: int
    out_channels: int
    kernel: PerAxis = (1, 1)
    stride: PerAxis = (1, 1)
    dilation: PerAxis = (1, 1)
    padding: Padding = (0, 0)
    padding_mode: PaddingMode = "zeros"
    groups: int = 1
    transposed: bool = False
    weight: Generator | None = None
    joint: Joint = "linear"
    bias: bool = False
    exact: bool = False

    @property
    def fan_in(self) -> int:
        """Number of weights of one output channel."""
        return self.in_channels // self.groups * self.kernel[0] * self.kernel[1]


@dataclass(frozen=True)
class Shuffle:
    """Channel shuffle: each of the ``groups`` new groups has channels of every old group."""

    groups: int


@dataclass(frozen=True)
class Tied:
    """A 1x1 to ``rank`` channels and one back, whose weight is the transpose of the first's."""

    channels: int
    rank: int


@dataclass(frozen=True)
class AcrossChannels:
    """A convolution along the channels, ``out_channels`` filters of three taps, and its mean over the channels."""

    out_channels: int


@dataclass(frozen=True)
class Identity:
    """The input itself."""


@dataclass(frozen=True)
class Chain:
    """Expressions in sequence; nested chains are equal to one long chain."""

    parts: tuple[Expression, ...]

    def __init__(self, *parts: Expression) -> None:
        object.__setattr__(self, "parts", parts)


@dataclass(frozen=True)
class Branches:
    """Expressions that share an input; their outputs are concatenated or added, and a joint follows."""

    mode: Literal["concat", "add"]
    parts: tuple[Expression, ...]
    joint: Joint = "linear"

    def __init__(self, mode: Literal["concat", "add"], *parts: Expression, joint: Joint = "linear") -> None:
        object.__setattr__(self, "mode", mode)
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "joint", joint)


Layer = Conv | AcrossChannels | Tied | Shuffle | Identity | Branches
Expression = Layer | Chain


def layers(expression: Expression) -> Iterator[Layer]:
    """Yield the layers of an expression in sequence."""
    if isinstance(expression, Chain):
        for part in expression.parts:
            yield from layers(part)
    else:
        yield expression


def halves(expression: Expression) -> tuple[Expression, Expression] | None:
    """Split an expression at its first batch norm and ReLU, which belong to neither half; None if it has none."""
    found = list(layers(expression))
    for index, layer in enumerate(found[:-1]):
        if isinstance(layer, Conv | Branches) and layer.joint == "norm+relu":
            return Chain(*found[:index], replace(layer, joint="linear")), Chain(*found[index + 1 :])
    return None


def out_channels(expression: Expression, inputs: int) -> int:
    """Return the number of output channels of an expression for ``inputs`` channels."""
    for layer in layers(expression):
        if isinstance(layer, Conv | AcrossChannels):
            inputs = layer.out_channels
        elif isinstance(layer, Branches):
            widths = [out_channels(part, inputs) for part in layer.parts]
            inputs = sum(widths) if layer.mode == "concat" else widths[0]
    return inputs


def total_stride(expression: Expression) -> PerAxis:
    """Return the stride of a whole expression; parallel branches have equal strides."""
    rows, columns = 1, 1
    for layer in layers(expression):
        if isinstance(layer, Conv | Branches):
            own = layer.stride if isinstance(layer, Conv) else total_stride(layer.parts[0])
            rows, columns = rows * own[0], columns * own[1]
    return rows, columns
