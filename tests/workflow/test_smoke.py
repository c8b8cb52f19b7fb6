"""The fastest smoke-test study, whole, by one plain `dvc repro`; `make smoke` runs all of them, under both engines.

Under Snakemake the tutorial and the tiny study run whole; what runs DVC's stages side by side continues the latter.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.smoke import run as smoke


def test_dvc_takes_generated_data_to_the_report(tmp_path: Path) -> None:
    _, tables = smoke.run("cifar10-smoke", ("dvc", "repro"), tmp_path, in_suite=True)
    assert tables["table.csv"].count("\n") == 3  # the header, the teacher and a student


def test_every_large_study_has_a_twin() -> None:
    large = {"cifar10", "cifar100", "cityscapes", "imagenet"}
    assert {name.removesuffix("-smoke") for name in smoke.STUDIES} == large


def test_an_unknown_study_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        smoke.main(["cifar11-smoke"])
    assert "cifar11-smoke: no such study" in capsys.readouterr().err
