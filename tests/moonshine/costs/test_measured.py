"""Costs of a study's network: the measures that a budget may limit, and the file."""

from __future__ import annotations

from pathlib import Path

from moonshine.costs.measured import MeasuredCost


def test_measures_are_those_that_were_measured(tmp_path: Path) -> None:
    cost = MeasuredCost(
        parameters=2,
        macs=9,
        ops=10,
        bytes={"fp32": 5, "bf16": 3, "onnx": 7},
        peak_activation_bytes=4,
        batch=1,
        input_shape=(1, 2, 2),
        compression=1.0,
    )
    assert cost.by_measure() == {"fp32": 5, "onnx": 7, "parameters": 2, "macs": 9, "peak": 4}
    cost.write(tmp_path / "cost.json")
    assert MeasuredCost.read(tmp_path / "cost.json") == cost
    assert "latency" not in (tmp_path / "cost.json").read_text()
