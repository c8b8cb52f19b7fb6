"""A rate that is assumed, where nobody has measured the device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import moonshine
from moonshine.config import load_study
from tests.workflow import tiny
from tests.workflow.estimating.studies import SIZE, estimate


def test_a_rate_may_be_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two operations to a multiply-accumulate, three forward passes of what trains and one of its teacher."""
    tiny.write_study(tmp_path)
    assert estimate("--tflops", "1e-6", *SIZE, "--json") == 0  # a million operations a second
    found = {(row["student"], row["trained_by"]): row for row in json.loads(capsys.readouterr().out)["rows"]}
    study = load_study()
    teacher, student = (
        2
        * moonshine.cost(
            moonshine.build(study.teacher.name, block, num_classes=2, in_channels=1), (1, 8, 8)
        ).macs
        for block in ("S", "G(4)")
    )
    rates = [1e6 / found["G4", kind]["images_per_second"] for kind in ("scratch", "at")]
    assert rates == pytest.approx([3 * student, 3 * student + teacher])
    assert 1e6 / found["teacher", "teacher"]["evaluated_per_second"] == pytest.approx(teacher)
    assert estimate("--tflops", "400", *SIZE) == 0
    assert "Assumed, not measured: 400 x 10^12 operations a second" in capsys.readouterr().out
