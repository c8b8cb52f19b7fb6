"""``moonshine checksum`` prints what a study states under ``sha256``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from moonshine_workflow import cli
from tests.messages import names
from tests.moonshine.datasets.flowers import config_of, plant


def test_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "weights.pt").write_bytes(b"weights")
    assert cli.main(["checksum", str(tmp_path / "weights.pt")]) == 0
    assert capsys.readouterr().out == hashlib.sha256(b"weights").hexdigest() + "\n"


def test_of_a_folder_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = plant(tmp_path / "flowers", {f"{split}/{name}": 1 for split in ("train", "test") for name in "ab"})
    assert cli.main(["checksum", str(root)]) == 0
    assert capsys.readouterr().out == config_of(root).sha256 + "\n"


def test_of_nothing_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["checksum", str(tmp_path / "absent.pt")]) == 2
    assert capsys.readouterr().err.endswith("absent.pt: cannot be read (No such file or directory)\n")
    assert cli.main(["checksum", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert names(shown.err, "train/", "test/")
    assert shown.out == ""
