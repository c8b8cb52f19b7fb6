"""Budgets as people write them: ``1.2MB``, ``1MB onnx-int8``, ``300k params``, ``50M macs``, ``2MB peak``, ``15ms``.

Needs no torch, so a study is checked without loading it. A new kind of budget is one entry of `MEASURES`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moonshine.errors import MoonshineError

COUNTS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
SECONDS = {"us": 10**-3, "ms": 1, "s": 10**3}


@dataclass(frozen=True)
class Measure:
    """What a budget can limit: its unit table, and the words that may follow the number."""

    name: str
    units: Mapping[str, float]
    words: tuple[str, ...]
    shown: str


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("fp32", BYTES, ("", "fp32", "safetensors"), "bytes of the fp32 safetensors file"),
        Measure("onnx", BYTES, ("onnx",), "bytes of the ONNX file"),
        Measure("onnx-int8", BYTES, ("onnx-int8",), "bytes of the INT8 ONNX file"),
        Measure("parameters", COUNTS, ("params", "parameters"), "trainable parameters"),
        Measure("macs", COUNTS, ("macs", "MACs"), "multiply-accumulates"),
        Measure("peak", BYTES, ("peak",), "bytes of peak activation memory at batch 1, fp32"),
        Measure("latency", SECONDS, ("", "latency"), "milliseconds of CPU latency at batch 1"),
    )
}
"""Name -> measure; the same names head the costs that a budget is compared with."""

EXPORTED = ("onnx", "onnx-int8")
"""Measures that are known only from an exported file."""

SPREAD = 0.1
"""The share up to which two latencies are the same: the more of it one measured, the busier the machine was."""

ALLOWED = (
    "1.2MB (the fp32 safetensors file), 1.2MB onnx, 1MB onnx-int8, 300k params, 50M macs, 2MB peak, 15ms; MB are 10^6 "
    "bytes, MiB 2^20"
)
_TEXT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*([A-Za-z0-9-]*)\s*")


@dataclass(frozen=True)
class Budget:
    """A limit on one measure, inclusive; ``str(budget)`` is what was written."""

    measure: str
    limit: float
    text: str

    def __str__(self) -> str:
        return self.text

    def allows(self, value: float) -> bool:
        return value <= self.limit


def parse(text: str) -> Budget:
    """The budget that ``text`` says; MoonshineError for another form, and for one that is not above 0."""
    if match := _TEXT.fullmatch(text) if isinstance(text, str) and len(text) < 1000 else None:
        for unit, word in _readings(match):
            for measure in MEASURES.values():
                if unit in measure.units and word in measure.words and (unit or word):
                    return _positive(
                        Budget(measure.name, float(match[1]) * measure.units[unit], text.strip())
                    )
    raise MoonshineError(f"budget {text!r} is none; allowed: {ALLOWED}")


def parse_all(texts: str | Sequence[str]) -> tuple[Budget, ...]:
    """Several budgets that hold at once; MoonshineError as for `parse`, and for none or two on one measure."""
    budgets = tuple(map(parse, [texts] if isinstance(texts, str) else texts))
    if not budgets:
        raise MoonshineError(f"budget: found none; allowed: {ALLOWED}")
    for position, budget in enumerate(budgets):
        for other in budgets[:position]:
            if other.measure == budget.measure:
                raise MoonshineError(
                    f"budget: {other} and {budget} both limit the {MEASURES[budget.measure].shown}; allowed: one"
                )
    return budgets


def _readings(match: re.Match[str]) -> list[tuple[str, str]]:
    """(unit, word) as written, and without a unit where only one word stands: ``300 params``."""
    unit, word = match[2], match[3]
    return [(unit, word)] if word else [(unit, ""), ("", unit)]


def _positive(budget: Budget) -> Budget:
    if budget.limit > 0 and math.isfinite(budget.limit):
        return budget
    raise MoonshineError(f"budget {budget.text!r} allows nothing; allowed: more than 0, such as {ALLOWED}")


def show(measure: str, value: float) -> str:
    """A value of a measure as people write it: ``1.234 MB``, ``123,456``, ``12.3 ms``."""
    if MEASURES[measure].units is BYTES:
        return f"{value / 1e6:.3f} MB"
    return f"{value:,.0f}" if MEASURES[measure].units is COUNTS else f"{value:.2f} ms"


def dearer(student: Mapping[str, float], teacher: Mapping[str, float]) -> str:
    """In what a student costs more than its teacher: ``1.83 times the parameters``; nothing where it does not."""
    ratios = {
        words: student[measure] / teacher[measure]
        for measure, words in (("parameters", "parameters"), ("macs", "MACs"))
        if student[measure] > teacher[measure]
    }
    return " and ".join(f"{ratio:.2f} times the {words}" for words, ratio in ratios.items())
