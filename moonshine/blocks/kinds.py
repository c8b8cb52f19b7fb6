"""The kinds of block in the paper's Table 1: how each is written, and the convolutions it stands for.

Needs no torch, so a configuration or a DAG is checked without loading it. A new kind is one entry of `KINDS`.
Source: Crowley, Gray, Storkey, "Moonshine: Distilling with Cheap Convolutions", NeurIPS 2018, Table 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from moonshine.errors import MoonshineError


@dataclass(frozen=True)
class Share:
    """A number of groups as a share of a width: ``N/8`` is ``Share("N", 8)``, ``N`` is ``Share("N", 1)``."""

    width: str
    divisor: int = 1

    def __str__(self) -> str:
        return self.width if self.divisor == 1 else f"{self.width}/{self.divisor}"


Value = int | Share


@dataclass(frozen=True)
class Block:
    """A parsed block: ``str(block)`` is the paper's notation, ``block.slug`` the same for file names."""

    kind: str
    values: tuple[Value, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}({','.join(map(str, self.values))})" if self.values else self.kind

    @property
    def slug(self) -> str:
        """The block in letters, digits, ``-`` and ``_`` only: ``BG(2,M/8)`` is ``BG-2-M_8``."""
        return "-".join([self.kind, *(str(value).replace("/", "_") for value in self.values)])


@dataclass(frozen=True)
class Conv:
    """One convolution without bias, padded so that only its stride changes the resolution."""

    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1


# One inner tuple for each convolution of the released code, whose cheap convolutions are several in one.
Convolutions = tuple[tuple[Conv, ...], ...]


@dataclass(frozen=True)
class Parameter:
    """A value in a block's brackets: a whole number, or also a share of the width named here (N or M)."""

    name: str
    width: str | None = None

    @property
    def allowed(self) -> str:
        """What may be written for it, in words."""
        whole = "a whole number from 1"
        return whole if self.width is None else f"{whole}, {self.width} or {self.width}/x"


@dataclass(frozen=True)
class Kind:
    """A kind of block: its letters, parameters, branch as ``convolutions(in, out, stride, *values)``."""

    name: str
    parameters: tuple[Parameter, ...]
    convolutions: Callable[..., Convolutions]

    def __str__(self) -> str:
        names = ",".join(parameter.name for parameter in self.parameters)
        return f"{self.name}({names})" if names else self.name


def divisors(width: int) -> list[int]:
    """All divisors of a width, ascending."""
    return [number for number in range(1, width + 1) if width % number == 0]


def group_count(value: Value, width: int, symbol: str) -> int:
    """The number of groups that `value` means over `width` channels; MoonshineError if it does not divide."""
    number = value.divisor if isinstance(value, Share) else value
    if width % number == 0:
        return width // number if isinstance(value, Share) else number
    fitting = divisors(width)
    shares = [str(Share(symbol, number)) for number in fitting]
    raise MoonshineError(
        f"{value} groups do not divide {symbol} = {width} channels; allowed: {', '.join(map(str, fitting))}, "
        f"{', '.join(shares)}"
    )


def narrowed(factor: int, width: int) -> int:
    """The channels left by a bottleneck, ``M = N/b``; MoonshineError if b does not divide N."""
    if width % factor == 0:
        return width // factor
    raise MoonshineError(
        f"a bottleneck of {factor} does not divide N = {width} output channels; "
        f"allowed: {', '.join(map(str, divisors(width)))}"
    )


def standard(inputs: int, outputs: int, stride: int) -> Convolutions:
    """S: two kxk convolutions."""
    return (Conv(inputs, outputs, 3, stride),), (Conv(outputs, outputs, 3),)


def grouped(inputs: int, outputs: int, stride: int, g: Value) -> Convolutions:
    """G(g): twice a kxk convolution in g groups and a 1x1; where widths differ, the 1x1 changes them."""

    def pair(inputs: int, stride: int) -> tuple[Conv, Conv]:
        cheap = Conv(inputs, inputs, 3, stride, group_count(g, inputs, "N"))
        return cheap, Conv(inputs, outputs)

    return pair(inputs, stride), pair(outputs, 1)


def bottleneck(inputs: int, outputs: int, stride: int, b: int, g: Value = 1) -> Convolutions:
    """B(b), BG(b,g): once 1x1 to M = N/b of the output width N, kxk with the stride in g groups, 1x1 to N."""
    middle = narrowed(b, outputs)
    cheap = Conv(middle, middle, 3, stride, group_count(g, middle, "M"))
    return ((Conv(inputs, middle), cheap, Conv(middle, outputs)),)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("S", (), standard),
        Kind("G", (Parameter("g", "N"),), grouped),
        Kind("B", (Parameter("b"),), bottleneck),
        Kind("BG", (Parameter("b"), Parameter("g", "M")), bottleneck),
    )
}

PAPER = (
    *(f"G({g})" for g in (2, 4, 8, 16, "N/16", "N/8", "N/4", "N/2", "N")),
    "B(2)",
    "B(4)",
    *(f"BG(2,{g})" for g in (2, 4, 8, 16, "M/16", "M/8", "M/4", "M/2", "M")),
    "BG(4,M)",
)
"""The 21 blocks of the paper's students."""

_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9]*)(?:\(([^()]*)\))?")
_SLUG = re.compile(r"([A-Za-z][A-Za-z0-9]*)((?:-[A-Za-z0-9_]+)+)")
_VALUE = re.compile(r"(?P<whole>[1-9][0-9]{0,8})|(?P<width>[A-Z])(?:/(?P<divisor>[1-9][0-9]{0,8}))?")


def parse(text: str | Block) -> Block:
    """The block written as ``BG(2,M/8)`` or as its slug ``BG-2-M_8``; MoonshineError says what is allowed."""
    if isinstance(text, Block):
        return text
    kind, values = _split(text)
    if kind not in KINDS:
        raise MoonshineError(f"block {text!r}: unknown kind {kind!r}; allowed: {_kinds()}")
    parameters = KINDS[kind].parameters
    if len(values) != len(parameters):
        raise MoonshineError(f"block {text!r}: found {len(values)} values; allowed: {KINDS[kind]}")
    return Block(kind, tuple(_value(text, *pair) for pair in zip(parameters, values, strict=True)))


def _split(text: str) -> tuple[str, list[str]]:
    compact = text.replace(" ", "") if isinstance(text, str) else ""
    if match := _TEXT.fullmatch(compact):
        kind, values = match.groups()
        return kind, [] if values is None else values.split(",")
    if match := _SLUG.fullmatch(compact):
        return match[1], match[2][1:].replace("_", "/").split("-")
    raise MoonshineError(f"block {text!r} is not a block; allowed: {_kinds()}")


def _value(text: str, parameter: Parameter, written: str) -> Value:
    match = _VALUE.fullmatch(written)
    if match and match["whole"]:
        return int(match["whole"])
    if match and match["width"] == parameter.width:
        return Share(match["width"], int(match["divisor"] or 1))
    raise MoonshineError(f"block {text!r}: {parameter.name} is {written!r}; allowed: {parameter.allowed}")


def _kinds() -> str:
    return ", ".join(map(str, KINDS.values()))


def convolutions(
    block: str | Block, in_channels: int, out_channels: int, stride: int = 1, path: str = "block"
) -> Convolutions:
    """The convolutions of a block's branch at one place, without building it.

    MoonshineError names the block, the layer (`path`), the undivided width and the values that would.
    """
    block = parse(block)
    try:
        return KINDS[block.kind].convolutions(in_channels, out_channels, stride, *block.values)
    except MoonshineError as error:
        raise MoonshineError(f"block {block} does not fit {path}: {error}") from None
