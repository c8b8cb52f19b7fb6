"""The fastest of the small twins, whole, under both engines; `make smoke` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.smoke import run as smoke


def test_both_engines_take_generated_data_to_the_same_report(tmp_path: Path) -> None:
    tables = [smoke.run("cifar10-smoke", engine, 2, tmp_path)[1] for engine in smoke.ENGINES]
    assert tables[0] == tables[1]
    assert tables[0]["table.csv"].count("\n") == 3  # the header, the teacher and a student


def test_every_large_study_has_a_twin() -> None:
    large = {"cifar10", "cifar100", "cityscapes", "imagenet"}
    assert {name.removesuffix("-smoke") for name in smoke.STUDIES} == large


def test_an_unknown_study_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        smoke.main(["cifar11-smoke"])
    assert "cifar11-smoke: no such study" in capsys.readouterr().err
