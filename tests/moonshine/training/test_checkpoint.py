"""Checkpoints: the last two, verified; a damaged one costs an epoch, not the run."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from moonshine.errors import MoonshineError
from moonshine.training.checkpoint import KEPT_CHECKPOINTS, VERSION, Checkpoints, fingerprint
from tests.messages import naming

CPU = torch.device("cpu")


def filled(folder: Path, epochs: int) -> Checkpoints:
    checkpoints = Checkpoints(folder, "settings")
    for epoch in range(epochs):
        checkpoints.save(epoch, {"weights": torch.full((3,), float(epoch))})
    return checkpoints


def test_the_newest_is_used_and_only_the_last_are_kept(tmp_path: Path) -> None:
    found = filled(tmp_path, 5).load(CPU)
    assert found is not None
    assert found[0] == 4
    assert found[1]["weights"].tolist() == [4.0] * 3
    assert len(list(tmp_path.glob("*.pt"))) == KEPT_CHECKPOINTS


def test_nothing_there_is_a_fresh_start(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", "settings").load(CPU) is None


def test_files_that_somebody_put_beside_them_are_left_alone(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 3)
    strangers = [tmp_path / name for name in ("epoch-x.pt", "epoch-99999 (copy).pt", "epoch-9.pt")]
    for stranger in strangers:
        stranger.write_bytes(b"")
    checkpoints.save(3, {"weights": torch.zeros(3)})
    found = checkpoints.load(CPU)
    assert found is not None
    assert found[0] == 3
    checkpoints.clear()
    assert sorted(tmp_path.iterdir()) == sorted(strangers)


@pytest.mark.parametrize("damage", ["flip", "truncate", "no receipt"])
def test_a_corrupt_one_falls_back_to_the_one_before(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = filled(tmp_path, 2)
    newest = tmp_path / "epoch-00001.pt"
    content = bytearray(newest.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 255
        newest.write_bytes(content)
    elif damage == "truncate":
        newest.write_bytes(content[: len(content) // 2])
    else:
        newest.with_suffix(".json").unlink()
    with caplog.at_level(logging.WARNING):
        found = checkpoints.load(CPU)
    assert found is not None
    assert found[0] == 0
    assert "epoch-00001" in caplog.text
    assert "falling back" in caplog.text


def test_a_corrupt_only_one_means_a_fresh_start_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = filled(tmp_path, 1)
    (tmp_path / "epoch-00000.pt").write_bytes(b"not a checkpoint")
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load(CPU) is None
    assert "corrupt" in caplog.text


def test_a_checkpoint_of_other_settings_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path, 2)
    with caplog.at_level(logging.WARNING):
        assert Checkpoints(tmp_path, "other settings").load(CPU) is None
    assert "other settings" in caplog.text


def test_one_from_before_checkpoints_had_versions_is_refused_and_kept(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 2)
    receipt = tmp_path / "epoch-00001.json"
    receipt.write_text(
        json.dumps({k: v for k, v in json.loads(receipt.read_text()).items() if k != "version"})
    )
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(MoonshineError, match=naming("epoch-00001.pt", "version 0", VERSION, tmp_path)):
        checkpoints.load(CPU)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_clear_leaves_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 2).clear()
    assert list(tmp_path.iterdir()) == []


def test_fingerprints_differ_with_any_setting_but_not_with_its_order() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1, "b": 2}) != fingerprint({"a": 1, "b": 3})
