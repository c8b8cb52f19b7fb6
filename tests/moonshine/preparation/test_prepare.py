from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moonshine.data.store import load_dataset
from moonshine.datasets.arrays import Arrays
from moonshine.datasets.digits import Digits
from moonshine.datasets.kind import Normalisation
from moonshine.errors import MoonshineError
from moonshine.files import sha256
from moonshine.preparation.prepare import prepare_dataset
from tests.messages import naming
from tests.moonshine.datasets import flowers
from tests.moonshine.images import images_of

UNCHANGED = {"resize": None, "crop": None, "interpolation": None, "antialias": None}
IMAGENET = Normalisation(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def digits(**changes: Any) -> Digits:
    options = {"size": 8, "validation": 0.0, "test": 0.5, "split_seed": 0}
    return Digits(name="digits", **{**options, **changes})


def arrays(path: Path, shape: tuple[int, ...] = (10, 12, 3), **changes: Any) -> Arrays:
    """Ten training and four test images of ``shape``, and the section of a study that names them."""
    draws = np.random.RandomState(0)
    images = {
        f"{split}_images": draws.randint(256, size=(count, *shape)).astype(np.uint8)
        for split, count in (("train", 10), ("test", 4))
    }
    labels = {f"{split}_labels": np.arange(count) % 2 for split, count in (("train", 10), ("test", 4))}
    np.savez(path, **images, **labels)  # type: ignore[arg-type]
    options = {"size": None, "validation": 0.0, "split_seed": 0}
    return Arrays(name="arrays", path=str(path), sha256=sha256(path), **{**options, **changes})


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MoonshineError, match=naming("file/data", "cannot write")):
        prepare_dataset(digits(), tmp_path / "file" / "data")


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(MoonshineError, match=naming("data", "No space left")):
        prepare_dataset(digits(), tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("size", "rule"),
    [
        (None, UNCHANGED),
        (8, {"resize": [8, 8], "crop": None, "interpolation": "bilinear", "antialias": True}),
        (11, {"resize": [11, 11], "crop": None, "interpolation": "bilinear", "antialias": True}),
        (12, {"resize": [12, 12], "crop": None, "interpolation": "bilinear", "antialias": False}),
        (20, {"resize": [20, 20], "crop": None, "interpolation": "bilinear", "antialias": False}),
    ],
)
def test_the_resize_rule_is_what_was_done(size: int | None, rule: dict[str, Any], tmp_path: Path) -> None:
    """torchvision, told the rule alone, makes the same images of the same pixels."""
    from torchvision.transforms.v2.functional import resize

    config = arrays(tmp_path / "my.npz", size=size)
    assert prepare_dataset(config, tmp_path / "data").resize_rule == rule
    data = load_dataset(tmp_path / "data")
    assert data.resize_rule == rule
    images = torch.from_numpy(np.load(config.path)["test_images"]).permute(0, 3, 1, 2)
    if rule["resize"]:
        images = resize(images.float(), rule["resize"], antialias=rule["antialias"]).round().to(torch.uint8)
    assert torch.equal(images_of(data.test), images)


def test_square_images_that_keep_their_size(tmp_path: Path) -> None:
    assert prepare_dataset(digits(), tmp_path).resize_rule == UNCHANGED
    config = arrays(tmp_path / "my.npz", (9, 9, 3), size=9)
    assert prepare_dataset(config, tmp_path / "data").resize_rule == UNCHANGED


def test_a_stated_normalisation_is_taken(tmp_path: Path) -> None:
    prepare_dataset(arrays(tmp_path / "my.npz", normalisation=IMAGENET), tmp_path / "data")
    data = load_dataset(tmp_path / "data")
    assert data.mean == (0.485, 0.456, 0.406)
    assert data.std == (0.229, 0.224, 0.225)


def test_every_kind_takes_a_normalisation(tmp_path: Path) -> None:
    root = flowers.plant(
        tmp_path / "flowers", {f"{split}/{name}": 1 for split in ("train", "test") for name in "ab"}
    )
    prepare_dataset(flowers.config_of(root, normalisation=IMAGENET), tmp_path / "data")
    assert load_dataset(tmp_path / "data").mean == (0.485, 0.456, 0.406)
    prepare_dataset(digits(normalisation=Normalisation(mean=[0.3], std=[0.4])), tmp_path / "data")
    assert (load_dataset(tmp_path / "data").mean, load_dataset(tmp_path / "data").std) == ((0.3,), (0.4,))


def test_a_normalisation_of_other_channels(tmp_path: Path) -> None:
    with pytest.raises(MoonshineError, match=naming("data.normalisation", "3 values", "1 channels")):
        prepare_dataset(digits(normalisation=IMAGENET), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_constant_channel_needs_a_stated_normalisation(tmp_path: Path) -> None:
    config = arrays(tmp_path / "my.npz")
    content = dict(np.load(config.path))
    content["train_images"][..., 1] = 7
    np.savez(config.path, **content)
    config = config.model_copy(update={"sha256": sha256(Path(config.path))})
    with pytest.raises(MoonshineError, match=naming("channel 1", "7")):
        prepare_dataset(config, tmp_path / "data")
    prepare_dataset(config.model_copy(update={"normalisation": IMAGENET}), tmp_path / "data")


def test_grey_images_for_a_network_that_takes_colour(tmp_path: Path) -> None:
    prepare_dataset(digits(size=12), tmp_path / "grey")
    prepare_dataset(digits(size=12, channels=3, normalisation=IMAGENET), tmp_path / "colour")
    grey, colour = load_dataset(tmp_path / "grey"), load_dataset(tmp_path / "colour")
    assert colour.input_shape == (3, 12, 12)
    assert torch.equal(images_of(colour.train), images_of(grey.train).expand(-1, 3, -1, -1))
    assert colour.mean == (0.485, 0.456, 0.406)
    prepare_dataset(arrays(tmp_path / "my.npz", channels=3), tmp_path / "same")
    assert load_dataset(tmp_path / "same").input_shape == (3, 10, 12)


def test_channels_that_are_neither_grey_nor_colour(tmp_path: Path) -> None:
    config = arrays(tmp_path / "my.npz", (8, 8, 4), channels=3)
    with pytest.raises(MoonshineError, match=naming("data.channels", "my.npz", "4 channels", "1", "3")):
        prepare_dataset(config, tmp_path / "data")


def test_images_are_converted_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the images are, or become: never more numbers at once than ``CHUNK``, or one image."""
    from torch.nn import functional

    sizes: list[int] = []
    interpolate = functional.interpolate

    def watched(images: torch.Tensor, size: tuple[int, int], **options: Any) -> torch.Tensor:
        resized = interpolate(images, size, **options)
        sizes.append(max(images.numel(), resized.numel()))
        return resized

    monkeypatch.setattr("moonshine.preparation.images.CHUNK", 4000)
    monkeypatch.setattr(functional, "interpolate", watched)
    for size, one in ((8, 10 * 12 * 3), (32, 32 * 32 * 3), (64, 64 * 64 * 3)):
        prepare_dataset(arrays(tmp_path / "my.npz", size=size), tmp_path / "data")
        assert max(sizes) <= max(4000, one)
        sizes.clear()


def test_a_limit_bounds_every_split_and_is_in_the_description(tmp_path: Path) -> None:
    found = prepare_dataset(digits(validation=0.3, limit=50), tmp_path / "data")
    assert found.counts == {"train": 50, "validation": 50, "test": 50}
    assert found.limit == 50
    data = load_dataset(tmp_path / "data")
    assert torch.bincount(data.train.labels).tolist() == [5] * 10
    whole = prepare_dataset(digits(validation=0.3), tmp_path / "whole")
    assert "limit" not in whole.content()
    assert prepare_dataset(digits(validation=0.3, limit=9999), tmp_path / "x").counts == whole.counts
