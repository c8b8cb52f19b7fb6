"""Generated scenes: the same from the same seed, every class in each, and learnable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from moonshine.config.data import Generated
from moonshine.data import Split, load
from moonshine.data.store import VOID
from moonshine.datasets import prepare


def config_of(**changes: Any) -> Generated:
    options = {"kind": "maps", "classes": 4, "size": 16, "train": 5, "test": 2, "seed": 0}
    return Generated(**{"name": "generated", "validation": 0.0, "split_seed": 0, **options, **changes})


def test_scenes_are_twice_as_wide_and_their_last_row_is_void(tmp_path: Path) -> None:
    prepare(config_of(), tmp_path)
    dataset = load(tmp_path)
    assert isinstance(dataset.train, Split)
    assert dataset.train.images.shape == (5, 3, 16, 32)
    assert (dataset.train.labels[:, -1] == VOID).all()
    assert (dataset.train.labels[:, :-1] < 4).all()
    assert all(share > 0 for share in dataset.class_shares)


def test_a_seed_gives_the_same_bytes_and_another_others(tmp_path: Path) -> None:
    first, second, other = (
        prepare(config_of(seed=seed), tmp_path / name)["sha256"]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == second
    assert first["data.safetensors"] != other["data.safetensors"]


def test_a_class_is_known_by_its_colour(tmp_path: Path) -> None:
    prepare(config_of(), tmp_path)
    dataset = load(tmp_path)
    assert isinstance(dataset.train, Split)
    pixels = dataset.train.images.permute(0, 2, 3, 1).float()
    known = dataset.train.labels != VOID
    means = torch.stack([pixels[dataset.train.labels == label].mean(0) for label in range(4)])
    nearest = torch.cdist(pixels[known], means).argmin(1)
    assert (nearest == dataset.train.labels[known]).float().mean() > 0.95
