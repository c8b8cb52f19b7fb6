from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moonshine.data.description import Description
from moonshine.data.store import load_dataset
from moonshine.datasets.digits import Digits
from moonshine.errors import MoonshineError
from moonshine.preparation.prepare import prepare_dataset
from tests.moonshine.images import images_of


def config_of(**changes: Any) -> Digits:
    options = {"size": 8, "validation": 0.2, "test": 0.25, "split_seed": 0}
    return Digits(name="digits", **{**options, **changes})


def test_splits_counts_and_description(tmp_path: Path) -> None:
    description = prepare_dataset(config_of(), tmp_path)
    data = load_dataset(tmp_path)
    assert data.validation is not None
    assert description == Description.read(tmp_path / "dataset.json")
    assert description.counts == {"train": 1078, "validation": 270, "test": 449}
    assert [len(split) for split in (data.train, data.validation, data.test)] == [1078, 270, 449]
    assert data.input_shape == (1, 8, 8)
    assert data.class_names == tuple("0123456789")
    sizes = sum(split.labels.bincount() for split in (data.train, data.validation, data.test))
    assert (data.test.labels.bincount() - 0.25 * sizes).abs().max() < 1
    pixels = images_of(data.train).numpy() / 255
    assert data.mean == pytest.approx([pixels.mean()], rel=1e-12)
    assert data.std == pytest.approx([pixels.std()], rel=1e-12)


def test_every_digit_is_in_one_split(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    prepare_dataset(config_of(), tmp_path)
    data = load_dataset(tmp_path)
    assert data.validation is not None
    splits = (data.train, data.validation, data.test)
    found = torch.cat([torch.cat([images_of(s).flatten(1).double(), s.labels[:, None]], 1) for s in splits])
    bunch = load_digits()
    expected = np.column_stack([np.round(bunch.data * 255 / 16), bunch.target])
    assert sorted(found.tolist()) == sorted(expected.tolist())


def test_size_is_bilinear_upsampling(tmp_path: Path) -> None:
    prepare_dataset(config_of(), tmp_path / "8")
    prepare_dataset(config_of(size=16), tmp_path / "16")
    small, large = images_of(load_dataset(tmp_path / "8").test), images_of(load_dataset(tmp_path / "16").test)
    assert large.shape == (449, 1, 16, 16)
    # Inside, every output pixel is 9/16, 3/16, 3/16 and 1/16 of its four nearest input pixels.
    x = small.double()
    expected = (9 * x[..., :-1, :-1] + 3 * x[..., :-1, 1:] + 3 * x[..., 1:, :-1] + x[..., 1:, 1:]) / 16
    assert torch.equal(large[..., 1:-1:2, 1:-1:2], expected.round().to(torch.uint8))
    assert torch.equal(large[..., 0, 0], small[..., 0, 0])


def test_another_split_seed_is_another_split(tmp_path: Path) -> None:
    for seed in (0, 1):
        prepare_dataset(config_of(split_seed=seed), tmp_path / str(seed))
    first, second = (images_of(load_dataset(tmp_path / str(seed)).test) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_a_share_that_leaves_a_class_empty(tmp_path: Path) -> None:
    with pytest.raises(MoonshineError, match=r"data\.test: 0\.001 leaves class \d, which has \d+ images"):
        prepare_dataset(config_of(test=0.001), tmp_path)
