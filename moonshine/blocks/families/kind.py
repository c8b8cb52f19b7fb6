"""Kind of block: its definition, and the checks that kinds share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from moonshine.blocks.expressions import Decay, Expression
from moonshine.blocks.notation import Parameter, Value, WidthShare
from moonshine.errors import MoonshineError


@dataclass(frozen=True)
class Kind:
    """Kind of block: its name, its parameters, and ``expression(place, *values)``.

    ``expression`` raises MoonshineError for a place that the kind does not support and for values that do not fit
    there, naming those that would. ``replaces``: each spatial convolution, or both of a residual block at once. A kind
    that replaces both also replaces a lone one, unless it names, in ``alone``, what to use there instead.
    ``initialisation``: that of the released code, or by variance (`moonshine.blocks.initialisation`).
    ``decay``: decay group of its convolutions' weights.
    """

    name: str
    parameters: tuple[Parameter, ...]
    expression: Callable[..., Expression]
    replaces: Literal["conv", "pair"] = "conv"
    initialisation: Literal["released", "variance"] = "variance"
    decay: Decay = "plain"
    alone: str = ""

    def __str__(self) -> str:
        names = "".join(f"[,{each.name}]" if each.optional else f",{each.name}" for each in self.parameters)
        written = f"({names})".replace("(,", "(").replace("([,", "([")
        return f"{self.name}{written if names else ''}"


def divisors(width: int) -> list[int]:
    """Return all divisors of a width, ascending."""
    return [number for number in range(1, width + 1) if width % number == 0]


def group_count(value: Value, width: int, symbol: str) -> int:
    """Return the number of groups of `value` over `width` channels; MoonshineError if it does not divide them."""
    number = value.divisor if isinstance(value, WidthShare) else int(value)
    if width % number == 0:
        return width // number if isinstance(value, WidthShare) else number
    fitting = divisors(width)
    shares = [str(WidthShare(symbol, number)) for number in fitting]
    raise MoonshineError(
        f"{value} groups do not divide {symbol} = {width} channels; allowed: {', '.join(map(str, fitting))}, "
        f"{', '.join(shares)}"
    )


def scaled(share: int | Fraction, width: int, name: str) -> int:
    """The channels that a share of a width means; MoonshineError where it is no whole number."""
    if (share * width) % 1 == 0:
        return int(share * width)
    nearest = [Fraction(number, width) for number in (int(share * width), int(share * width) + 1) if number]
    raise MoonshineError(
        f"{name} = {share} of N = {width} channels is no whole number; allowed: {', '.join(map(str, nearest))} or "
        f"another multiple of 1/{width}"
    )


def rank(share: Fraction, width: int, name: str = "p") -> int:
    """The whole part of a share of a width; MoonshineError where that is 0."""
    if found := int(share * width):
        return found
    raise MoonshineError(f"{name} = {share} of {width} is less than 1; allowed: from 1/{width}")


def common_groups(g: int, widths: Mapping[str, int]) -> int:
    """The number of groups; MoonshineError if it does not divide all widths, which have these names."""
    allowed = divisors(math.gcd(*widths.values()))
    if g in allowed:
        return g
    named = [f"{name} = {width}" for name, width in widths.items()]
    raise MoonshineError(
        f"{g} groups do not divide all of {', '.join(named)} channels; allowed: {', '.join(map(str, allowed))}"
    )


def narrowed(factor: int, width: int) -> int:
    """Return the channels of a bottleneck, ``M = N/b``; MoonshineError if b does not divide N."""
    if width % factor == 0:
        return width // factor
    raise MoonshineError(
        f"a bottleneck of {factor} does not divide N = {width} output channels; "
        f"allowed: {', '.join(map(str, divisors(width)))}"
    )
