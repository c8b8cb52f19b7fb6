"""A folder of pictures from its checksum to the two prepared files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from moonshine.data.store import load_dataset
from moonshine.datasets.image_folder import checksum_image_folder
from moonshine.errors import MoonshineError
from moonshine.preparation.files import decode_file
from moonshine.preparation.prepare import prepare_dataset
from tests.messages import names, naming
from tests.moonshine.datasets.flowers import config_of, plant
from tests.moonshine.images import images_of

COUNTS = {"train/rose": 5, "train/daisy": 4, "train/iris": 6, "test/rose": 2, "test/daisy": 3, "test/iris": 1}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "flowers", COUNTS)


def test_pictures_become_the_two_files(root: Path, tmp_path: Path) -> None:
    config = config_of(root)
    description = prepare_dataset(config, tmp_path / "data")
    data = load_dataset(tmp_path / "data")
    assert data.class_names == ("daisy", "iris", "rose")
    assert data.input_shape == (3, 12, 12)
    assert description.counts == {"train": 15, "validation": 0, "test": 6}
    assert data.train.labels.tolist() == 4 * [0] + 6 * [1] + 5 * [2]
    assert data.test.labels.tolist() == [0, 0, 0, 1, 2, 2]
    expected = np.stack(
        [decode_file(root / "test" / "daisy" / name, 16, 12) for name in ("0.png", "1.jpg", "2.bmp")]
    )
    assert torch.equal(images_of(data.test)[:3], torch.from_numpy(expected.transpose(0, 3, 1, 2).copy()))
    assert description.sha256["source"] == config.sha256
    assert description.source == "image folder flowers"
    rule = {"resize": 16, "crop": [12, 12], "interpolation": "bilinear", "antialias": True}
    assert data.resize_rule == rule
    assert json.loads((tmp_path / "data" / "dataset.json").read_text())["resize_rule"] == rule
    pixels = images_of(data.train).numpy() / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)), rel=1e-12)
    assert data.std == pytest.approx(pixels.std((0, 2, 3)), rel=1e-12)


def test_a_val_folder_comes_before_the_share(root: Path, tmp_path: Path) -> None:
    assert prepare_dataset(config_of(root, validation=0.3), tmp_path / "share").counts["validation"] == 4
    plant(root, {"val/iris": 2})
    description = prepare_dataset(config_of(root, validation=0.3), tmp_path / "own")
    assert description.counts == {"train": 15, "validation": 2, "test": 6}
    own = load_dataset(tmp_path / "own").validation
    assert own is not None
    assert own.labels.tolist() == [1, 1]


def test_chunks_and_threads_change_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare_dataset(config_of(root), tmp_path / "whole")
    monkeypatch.setattr("moonshine.preparation.images.CHUNK", 2 * 12 * 12 * 3)
    monkeypatch.setattr("moonshine.preparation.files.THREADS", 1)
    assert prepare_dataset(config_of(root), tmp_path / "chunks") == whole


def test_the_checksum_is_that_of_the_list_of_sha256sum(root: Path) -> None:
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
    # As `find train test -type f | LC_ALL=C sort | xargs sha256sum | sha256sum` has it.
    lines = [f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    assert len(lines) == 21
    assert checksum_image_folder(root) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_checksum_sees_every_image_and_nothing_else(root: Path, tmp_path: Path) -> None:
    first = checksum_image_folder(root)
    assert checksum_image_folder(root.rename(tmp_path / "moved")) == first
    root = (tmp_path / "moved").rename(root)
    for path in (
        ".DS_Store",
        "train/.DS_Store",
        "train/rose/.hidden.png",
        "train/rose/Thumbs.db",
        "readme.txt",
    ):
        (root / path).write_bytes(b"x")
    assert checksum_image_folder(root) == first
    image = root / "train" / "rose" / "0.png"
    image.rename(root / "train" / "iris" / "9.png")
    moved = checksum_image_folder(root)
    (root / "train" / "iris" / "9.png").write_bytes(b"other")
    assert len({first, moved, checksum_image_folder(root)}) == 3


def test_hidden_and_foreign_files_are_passed_over(root: Path, tmp_path: Path) -> None:
    before = prepare_dataset(config_of(root), tmp_path / "before")
    for folder in ("train/.ipynb_checkpoints", "train/rose/.thumbnails", "test/.cache", ".git"):
        (root / folder).mkdir()
        (root / folder / "x.png").write_bytes(b"no image")
    for path in (
        ".DS_Store",
        "train/.DS_Store",
        "train/._rose.jpg",
        "train/Thumbs.db",
        "train/rose/._0.png",
        "train/rose/list.txt",
    ):
        (root / path).write_bytes(b"no image")
    assert prepare_dataset(config_of(root), tmp_path / "after") == before


def test_a_wrong_checksum_shows_the_right_one(root: Path, tmp_path: Path) -> None:
    right = checksum_image_folder(root)
    with pytest.raises(MoonshineError, match=naming("data.sha256", right, 64 * "a")):
        prepare_dataset(config_of(root, sha256=64 * "a"), tmp_path / "data")


def test_every_unreadable_image_is_named(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moonshine.preparation.images.CHUNK", 4 * 12 * 12 * 3)
    broken = ["train/daisy/0.png", "train/rose/4.png", "test/daisy/1.jpg"]
    for name in broken:
        (root / name).write_bytes(b"no image")
    with pytest.raises(MoonshineError) as error:
        prepare_dataset(config_of(root, validation=0.3), tmp_path / "data")
    assert names(str(error.value), "data.root", root, "3 images")
    for name in broken:
        assert f"{name} (cannot identify image file" in str(error.value)
    assert not (tmp_path / "data").exists()


def test_many_unreadable_images_are_counted(root: Path, tmp_path: Path) -> None:
    for path in root.glob("train/*/*"):
        path.write_bytes(b"")
    with pytest.raises(MoonshineError, match=naming("15 images", "5 more")) as error:
        prepare_dataset(config_of(root), tmp_path / "data")
    assert str(error.value).count("cannot identify") == 10


def test_a_folder_laid_out_otherwise(root: Path, tmp_path: Path) -> None:
    config = config_of(root)
    (root / "test").rename(root / "valid")
    with pytest.raises(MoonshineError, match=naming("data.root", "test/", "train", "valid")):
        prepare_dataset(config, tmp_path / "data")
    with pytest.raises(MoonshineError, match=naming(root, "test/")):
        checksum_image_folder(root)
    assert not (tmp_path / "data").exists()


def test_links_that_lead_nowhere(root: Path, tmp_path: Path) -> None:
    config = config_of(root)
    for name in ("8.jpg", "9.jpg"):
        (root / "train" / "rose" / name).symlink_to("gone")
    said = r"2 images cannot be read: train/rose/8\.jpg \(No such file or directory\), train/rose/9\.jpg"
    with pytest.raises(MoonshineError, match=rf"data\.root: .*{said}"):
        prepare_dataset(config, tmp_path / "data")
    with pytest.raises(MoonshineError, match=said):
        checksum_image_folder(root)
