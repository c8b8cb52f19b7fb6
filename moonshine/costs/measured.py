"""Measured cost of a network of a study: the content of ``cost.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from moonshine.costs.budgets import MEASURES
from moonshine.json_model import JsonModel


class MeasuredCost(JsonModel):
    """Costs at one input shape (C, H, W), measured as by `moonshine.costs.cost.cost`.

    ``bytes`` maps a format to the size of its file, and ``ram`` to what one takes when it runs; ``compression`` is the
    teacher's parameters over ``parameters``. Latency, RAM and bytes of exported files are present only if a budget
    limits them.
    """

    only_given: ClassVar[bool] = True
    parameters: int
    macs: int
    ops: int
    bytes: dict[str, int]
    peak_activation_bytes: int
    batch: int
    input_shape: tuple[int, ...]
    compression: float
    latency_ms: float | None = None

    def by_measure(self) -> Mapping[str, float]:
        """Return the value of every measure that a budget may limit, if it was measured."""
        found = {
            **self.bytes,
            "parameters": self.parameters,
            "macs": self.macs,
            "peak": self.peak_activation_bytes,
            "latency": self.latency_ms,
        }
        return {measure: value for measure in MEASURES if (value := found.get(measure)) is not None}
