"""The notation of blocks: a kind and its values, as the paper writes them and as file names can hold them.

Source: Crowley, Gray, Storkey, "Moonshine: Distilling with Cheap Convolutions", NeurIPS 2018, Table 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from moonshine.errors import MoonshineError


@dataclass(frozen=True)
class WidthShare:
    """A number of groups as a share of a width: ``N/8`` is ``Share("N", 8)``, ``N`` is ``Share("N", 1)``."""

    width: str
    divisor: int = 1

    def __str__(self) -> str:
        return self.width if self.divisor == 1 else f"{self.width}/{self.divisor}"


Value = int | WidthShare | Fraction | str
"""A whole number, a share of a width, a fraction (``0.25``, ``1/3``) or a word (``once``)."""


@dataclass(frozen=True)
class Block:
    """A parsed block: ``str(block)`` is the paper's notation, ``block.slug`` the same for file names."""

    kind: str
    values: tuple[Value, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}({','.join(map(_text, self.values))})" if self.values else self.kind

    @property
    def slug(self) -> str:
        """The block in letters, digits, ``-`` and ``_`` only: ``BG(2,M/8)`` is ``BG-2-M_8``, 0.25 is ``0p25``."""
        written = (_text(value).replace("/", "_").replace(".", "p") for value in self.values)
        return "-".join([self.kind, *written])


@dataclass(frozen=True)
class Parameter:
    """Parameter in a block's brackets, and its allowed values.

    ``whole``: a whole number from 1. ``width``: a share of the width of this name (N or M). ``fraction``: above 0 and
    at most 1. ``words``: one of these. Only the last parameters are ``optional``.
    """

    name: str
    whole: bool = True
    width: str | None = None
    fraction: bool = False
    words: tuple[str, ...] = ()
    optional: bool = False

    @property
    def allowed(self) -> str:
        """Allowed values, in words."""
        ways = [
            *(["a whole number from 1"] if self.whole else []),
            *(["a fraction above 0 and up to 1, such as 0.25 or 1/3"] if self.fraction else []),
            *([self.width, f"{self.width}/x"] if self.width else []),
            *self.words,
        ]
        return " or ".join([", ".join(ways[:-1]), ways[-1]] if ways[1:] else ways)

    def read(self, written: str) -> Value | None:
        """Return the value of a text; None if it is not allowed."""
        match = _VALUE.fullmatch(written)
        if match is None:
            return None
        if match["word"]:
            return written if written in self.words else None
        if match["width"]:
            return (
                WidthShare(match["width"], int(match["divisor"] or 1))
                if match["width"] == self.width
                else None
            )
        if self.whole and re.fullmatch(_WHOLE, written):
            return int(written)
        value = Fraction(written)
        return value if self.fraction and 0 < value <= 1 else None


ONCE = Parameter("once", whole=False, words=("once",), optional=True)
"""Last parameter of a kind that replaces single convolutions: one unit replaces both of a residual block instead."""

_WHOLE = r"[1-9][0-9]{0,8}"
_KIND = r"([A-Za-z][A-Za-z0-9]*)"
_TEXT = re.compile(rf"{_KIND}(?:\(([^()]*)\))?")
_SLUG = re.compile(rf"{_KIND}((?:-[A-Za-z0-9_]+)+)")
_VALUE = re.compile(
    rf"(?P<number>0\.[0-9]{{1,9}}|{_WHOLE}(?:/{_WHOLE})?)"
    rf"|(?P<width>[A-Z])(?:/(?P<divisor>{_WHOLE}))?|(?P<word>[a-z][a-z0-9]*)"
)
_POINT = re.compile(r"(?<=[0-9])p(?=[0-9])")


def split(text: object) -> tuple[str, list[str]] | None:
    """Split a block's text or slug into its kind and the texts of its values; None for anything else."""
    compact = text.replace(" ", "") if isinstance(text, str) else ""
    if match := _TEXT.fullmatch(compact):
        kind, values = match.groups()
        return kind, [] if values is None else values.split(",")
    if match := _SLUG.fullmatch(compact):
        return match[1], _POINT.sub(".", match[2][1:].replace("_", "/")).split("-")
    return None


def read_values(text: str, parameters: tuple[Parameter, ...], written: list[str]) -> tuple[Value, ...] | None:
    """Return the values of a block; None for too few or too many. MoonshineError names a value that is not allowed."""
    required = sum(not parameter.optional for parameter in parameters)
    if not required <= len(written) <= len(parameters):
        return None
    values: list[Value] = []
    for parameter, each in zip(parameters, written, strict=False):
        if (value := parameter.read(each)) is None:
            raise MoonshineError(
                f"block {text!r}: {parameter.name} is {each!r}; allowed: {parameter.allowed}"
            )
        values.append(value)
    return tuple(values)


def _text(value: Value) -> str:
    """Write a fraction as a decimal if that is short: 1/4 as 0.25, but 1/3 as 1/3."""
    if isinstance(value, Fraction) and 10**9 % value.denominator == 0:
        return f"{float(value):.9f}".rstrip("0").rstrip(".")
    return str(value)
