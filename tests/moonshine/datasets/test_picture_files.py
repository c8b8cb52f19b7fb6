"""A folder of pictures that stay encoded: listed, written, and batched as the same folder decoded ahead would be."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from moonshine.data.batches import evaluation_images
from moonshine.data.encoded import EncodedSplit
from moonshine.data.store import load_dataset
from moonshine.datasets.image_folder import EncodedImageFolder
from moonshine.datasets.kind import Normalisation
from moonshine.errors import MoonshineError
from moonshine.preparation.prepare import prepare_dataset
from tests.messages import naming
from tests.moonshine.datasets.flowers import config_of, plant
from tests.moonshine.images import images_of

COUNTS = {"train/rose": 5, "train/daisy": 4, "train/iris": 6, "test/rose": 2, "test/daisy": 3, "test/iris": 1}
NORMALISATION = Normalisation(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def files_of(root: Path, **changes: Any) -> EncodedImageFolder:
    options = {"root": str(root), "resize": 16, "crop": 12, "validation": 0.0, "split_seed": 0}
    return EncodedImageFolder(name="picture_files", normalisation=NORMALISATION, **{**options, **changes})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "flowers", COUNTS)


def test_the_pictures_are_those_of_the_folder_decoded_ahead(root: Path, tmp_path: Path) -> None:
    plant(root, {"val/iris": 2})
    prepare_dataset(config_of(root), tmp_path / "decoded")
    description = prepare_dataset(files_of(root), tmp_path / "encoded")
    decoded, encoded = load_dataset(tmp_path / "decoded"), load_dataset(tmp_path / "encoded")
    assert encoded.class_names == decoded.class_names
    assert encoded.input_shape == decoded.input_shape == (3, 12, 12)
    assert encoded.resize_rule == decoded.resize_rule
    assert encoded.mean == (0.485, 0.456, 0.406)
    assert description.counts == {"train": 15, "validation": 2, "test": 6}
    assert description.source == "picture files flowers, listed by name and size"
    for ahead, later in (
        (decoded.train, encoded.train),
        (decoded.validation, encoded.validation),
        (decoded.test, encoded.test),
    ):
        assert isinstance(later, EncodedSplit)
        assert ahead is not None
        assert torch.equal(later.labels, ahead.labels)
        (found,) = evaluation_images(later, [torch.arange(len(later))])
        assert (found.int() - images_of(ahead).int()).abs().max() <= 2  # Pillow's resizing, and torch's


def test_the_validation_share_is_that_of_the_folder_decoded_ahead(root: Path, tmp_path: Path) -> None:
    prepare_dataset(config_of(root, validation=0.3), tmp_path / "decoded")
    prepare_dataset(files_of(root, validation=0.3), tmp_path / "encoded")
    decoded, encoded = (load_dataset(tmp_path / name).validation for name in ("decoded", "encoded"))
    assert isinstance(encoded, EncodedSplit)
    assert decoded is not None
    assert torch.equal(encoded.labels, decoded.labels)
    (found,) = evaluation_images(encoded, [torch.arange(len(encoded))])
    assert (found.int() - images_of(decoded).int()).abs().max() <= 2


def test_the_checksum_is_of_names_and_sizes(root: Path, tmp_path: Path) -> None:
    first = prepare_dataset(files_of(root), tmp_path / "data")
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
    # As `find train test -type f -printf '%s  %p\n' | LC_ALL=C sort -k 2 | sha256sum` has it.
    lines = "".join(f"{(root / name).stat().st_size}  {name}\n" for name in names)
    assert first.sha256["source"] == hashlib.sha256(lines.encode()).hexdigest()
    assert prepare_dataset(files_of(root), tmp_path / "data") == first
    (root / names[0]).write_bytes(b"shorter")
    assert prepare_dataset(files_of(root), tmp_path / "data").sha256["source"] != first.sha256["source"]


def test_other_crops_are_other_data(root: Path, tmp_path: Path) -> None:
    """Checkpoints are told apart by the checksum of the prepared arrays."""
    found = {
        prepare_dataset(files_of(root, **changes), tmp_path / "data").sha256["data.safetensors"]
        for changes in ({}, {"crop": 10}, {"resize": 20})
    }
    assert len(found) == 3


def test_no_picture_is_read(root: Path, tmp_path: Path) -> None:
    for path in root.rglob("*.jpg"):
        path.write_bytes(b"no image")
    assert prepare_dataset(files_of(root), tmp_path / "data").counts["train"] == 15


def test_a_folder_laid_out_otherwise(root: Path, tmp_path: Path) -> None:
    (root / "test").rename(root / "valid")
    with pytest.raises(MoonshineError, match=naming("data.root", "test/", "train", "valid")):
        prepare_dataset(files_of(root), tmp_path / "data")
    with pytest.raises(MoonshineError, match=naming("data.root", "gone", "no folder")):
        prepare_dataset(files_of(tmp_path / "gone"), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_links_that_lead_nowhere(root: Path, tmp_path: Path) -> None:
    (root / "train" / "rose" / "8.jpg").symlink_to("gone")
    with pytest.raises(
        MoonshineError, match=naming("data.root", "1 image", "train/rose/8.jpg", "No such file")
    ):
        prepare_dataset(files_of(root), tmp_path / "data")


def test_a_root_below_the_home_folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    prepare_dataset(files_of(Path("~/flowers")), tmp_path / "data")
    split = load_dataset(tmp_path / "data").train
    assert isinstance(split, EncodedSplit)
    assert split.root == "~/flowers"
    assert len(split.read(0)) > 0
