"""An estimate in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from moonshine.config import load_study
from tests.workflow import tiny
from tests.workflow.estimating.fake_measurements import measured
from tests.workflow.estimating.studies import SIZE, estimate


def test_the_text_shows_its_arithmetic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_study(tmp_path)
    path = measured(load_study(), tmp_path / "there.json")
    assert estimate("--throughput", str(path), *SIZE) == 0
    text = capsys.readouterr().out
    assert "tiny: 40 training images, 10 for validation, 20 for testing, 1x8x8 (as given)" in text
    assert "Measured on a device, 1 thread, float32" in text
    assert "BG2-M at: 2 x (40 / 1.00 + 10 / 4.00) + 20 / 4.00 = 90.0 seconds" in text
    table = [line.split() for line in text.splitlines()]
    assert ["G4", "scratch", "2.00", "4.00", "50.0", "1", "50.0"] in table
    assert ["at", "1.00", "4.00", "90.0", "1", "90.0", "210.0"] in table
    assert ["in", "all", "7", "470.0", "470.0"] in table
    assert "8 devices, a node on each, longest first: 140.0 seconds" in text
