"""Budgets as written in a study: ``1.2MB``, ``1MB onnx-int8``, ``300k params``, ``50M macs``, ``2MB peak``,
``256kB ram``, ``15ms``.

Loads no torch, so that a study is checked without it. A new kind of budget is one entry of `MEASURES`; a new format
brings its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moonshine.errors import MoonshineError
from moonshine.formats.format import Format
from moonshine.formats.formats import FORMATS
from moonshine.formats.safetensors import SAFETENSORS

COUNT_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
BYTE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
TIME_UNITS = {"us": 10**-3, "ms": 1, "s": 10**3}


@dataclass(frozen=True)
class Measure:
    """Quantity that a budget can limit: its units, the words that may follow them, and its column header."""

    name: str
    units: Mapping[str, float]
    words: tuple[str, ...]
    head: str
    shown: str


FILE_MEASURES = {"fp32" if format is SAFETENSORS else format.name: format for format in FORMATS.values()}
"""Measure -> format of the file whose bytes it counts."""

EXPORTED = (*(measure for measure in FILE_MEASURES if measure != "fp32"), "ram")
"""Measures that need an exported file; the size of weights alone is computed."""

MAXIMA = ("peak", "ram")
"""Measures of which a network has as much as the layer that has most; of the others, the sum of its layers."""


def _bytes_of_file(measure: str, format: Format) -> Measure:
    words = ("", "fp32", "safetensors") if measure == "fp32" else (measure,)
    return Measure(measure, BYTE_UNITS, words, format.title, f"bytes of the {format.title} file")


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("parameters", COUNT_UNITS, ("params", "parameters"), "parameters", "trainable parameters"),
        Measure("macs", COUNT_UNITS, ("macs", "MACs"), "MACs", "multiply-accumulates"),
        *(_bytes_of_file(*file) for file in FILE_MEASURES.items()),
        Measure("peak", BYTE_UNITS, ("peak",), "peak", "bytes of peak activation memory at batch 1, fp32"),
        Measure(
            "ram",
            BYTE_UNITS,
            ("ram",),
            "RAM",
            "bytes of RAM of the INT8 TFLite file in TensorFlow Lite Micro",
        ),
        Measure("latency", TIME_UNITS, ("", "latency"), "latency", "milliseconds of CPU latency at batch 1"),
    )
}
"""Name -> measure; costs have the same names."""

SPREAD = 0.1
"""Largest relative difference of two latencies of one network; if they differ more, the machine was busy."""

BUDGET_FORMS = (
    f"1.2MB (the fp32 safetensors file), {', '.join(f'1MB {name}' for name in EXPORTED[:-1])}, 300k params, 50M macs, "
    "2MB peak, 256kB ram, 15ms; MB are 10^6 bytes, MiB 2^20"
)
_TEXT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*([A-Za-z0-9-]*)\s*")


@dataclass(frozen=True)
class Budget:
    """Inclusive limit on one measure; ``str(budget)`` is its text in the study."""

    measure: str
    limit: float
    text: str

    def __str__(self) -> str:
        return self.text

    def allows(self, value: float) -> bool:
        return value <= self.limit


def parse_budget(text: str) -> Budget:
    """Parse a budget; MoonshineError for an invalid form, and for a limit that is not above 0."""
    if match := _TEXT.fullmatch(text) if isinstance(text, str) and len(text) < 1000 else None:
        for unit, word in _readings(match):
            for measure in MEASURES.values():
                if unit in measure.units and word in measure.words and (unit or word):
                    return _positive(
                        Budget(measure.name, float(match[1]) * measure.units[unit], text.strip())
                    )
    raise MoonshineError(f"{text!r} is not a valid budget; allowed: {BUDGET_FORMS}")


def parse_bytes(text: str) -> int:
    """Return the bytes that ``20GB`` or ``0`` states; MoonshineError for any other form."""
    match = _TEXT.fullmatch(text) if len(text) < 1000 else None
    if match and not match[3] and (match[2] in BYTE_UNITS or not match[2]):
        return int(float(match[1]) * BYTE_UNITS[match[2] or "B"])
    raise MoonshineError(f"size {text!r} is not valid; allowed: 0, or such as 500MB, 20GB, 8GiB")


def parse_budgets(texts: str | Sequence[str]) -> tuple[Budget, ...]:
    """Parse budgets that hold together; MoonshineError as for `parse_budget`, and for none or two on one measure."""
    budgets = tuple(map(parse_budget, [texts] if isinstance(texts, str) else texts))
    if not budgets:
        raise MoonshineError(f"budget: found none; allowed: {BUDGET_FORMS}")
    for position, budget in enumerate(budgets):
        for other in budgets[:position]:
            if other.measure == budget.measure:
                raise MoonshineError(
                    f"budget: {other} and {budget} both limit the {MEASURES[budget.measure].shown}; allowed: one"
                )
    return budgets


def _readings(match: re.Match[str]) -> list[tuple[str, str]]:
    """Return the possible (unit, word): a single text may be either, as in ``300 params``."""
    unit, word = match[2], match[3]
    return [(unit, word)] if word else [(unit, ""), ("", unit)]


def _positive(budget: Budget) -> Budget:
    if budget.limit > 0 and math.isfinite(budget.limit):
        return budget
    raise MoonshineError(
        f"budget {budget.text!r} allows nothing; allowed: more than 0, such as {BUDGET_FORMS}"
    )


def show(measure: str, value: float) -> str:
    """Format a value of a measure: ``1.234 MB``, ``123,456``, ``12.3 ms``."""
    if MEASURES[measure].units is BYTE_UNITS:
        return f"{value / 1e6:.3f} MB"
    return f"{value:,.0f}" if MEASURES[measure].units is COUNT_UNITS else f"{value:.2f} ms"


def cost_increase(student: Mapping[str, float], teacher: Mapping[str, float]) -> str:
    """Describe how much more a student costs than its teacher: ``1.83 times the parameters``; empty if no more."""
    ratios = {
        words: student[measure] / teacher[measure]
        for measure, words in (("parameters", "parameters"), ("macs", "MACs"))
        if student[measure] > teacher[measure]
    }
    return " and ".join(f"{ratio:.2f} times the {words}" for words, ratio in ratios.items())
