"""Real steps on noise, with a label for every pixel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.workflow import tiny
from tests.workflow.estimating.studies import estimate


def test_label_maps_are_measured_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {
        "name": "segmentation_folder",
        "root": "streets",
        "sha256": "0" * 64,
        "classes": ["road", "sky"],
        "void": 255,
        "size": [16, 24],
        "validation": 0.0,
        "split_seed": 0,
    }
    recipe = {**tiny.STUDY["training"], "class_weights": {"log_offset": 1.1}}
    content = tiny.study(
        data=data,
        teacher={"network": "erfnet-0.25", "seed": 0},
        students={"G4": {"block": "G(4)"}},
        training=recipe,
        augment={"crop_padding": 2, "flip": True, "crop": [16, 16]},
    )
    tiny.write_study(tmp_path, content)
    size = ("--images", "9", "--test-images", "3")
    assert estimate(*size, "--measure-on-batches", "1", "--measure-batch", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["trained_by"] for row in found["rows"]] == ["teacher", "scratch", "kd", "at"]
    assert all(row["seconds_each"] > 0 for row in found["rows"])
