"""Cityscapes as it is extracted: label ids to classes, and what is said of a folder that is not whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moonshine.data.store import VOID, load_dataset
from moonshine.datasets import cityscapes
from moonshine.datasets.cityscapes import Cityscapes
from moonshine.errors import MoonshineError
from moonshine.preparation.prepare import prepare_dataset
from tests.messages import naming


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two training images and one for validation; every label id from 0 to 33 in each."""
    monkeypatch.setattr(cityscapes, "_COUNTS", {"train": 2, "val": 1})
    labels = np.tile(np.arange(34, dtype=np.uint8).repeat(2), (16, 1))
    for split, city, number in (("train", "aachen", 0), ("train", "ulm", 1), ("val", "munster", 0)):
        stem = f"{city}_00000{number}_000019"
        for name, content in (
            (f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", np.stack([labels + number] * 3, -1)),
            (f"gtFine/{split}/{city}/{stem}_gtFine_labelIds.png", labels),
        ):
            path = tmp_path / "cityscapes" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content.astype(np.uint8)).save(path)
    return tmp_path / "cityscapes"


def config_of(root: Path) -> Cityscapes:
    return Cityscapes(name="cityscapes", root=str(root), size=[16, 68], validation=0.0, split_seed=0)


def test_label_ids_become_the_benchmarks_19_classes(root: Path, tmp_path: Path) -> None:
    description = prepare_dataset(config_of(root), tmp_path / "data")
    dataset = load_dataset(tmp_path / "data")
    assert (dataset.num_classes, dataset.scored_classes) == (20, 19)
    assert description.counts == {"train": 2, "validation": 0, "test": 1}
    row = dataset.train.labels[0, 0, ::2].tolist()
    # by train id as the benchmark's scripts list them
    order = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert row == [order.index(label) if label in order else VOID for label in range(34)]
    assert dataset.class_names[:3] == ("road", "sidewalk", "building")
    assert dataset.class_names[13] == "car"
    assert dataset.class_names[-1] == "void"


def without_ulm(root: Path) -> None:
    for name in ("leftImg8bit", "gtFine"):
        shutil.rmtree(root / name / "train/ulm")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (shutil.rmtree, ["leftImg8bit/train", "no folder", "leftImg8bit_trainvaltest.zip"]),
        (
            lambda root: shutil.rmtree(root / "gtFine"),
            ["gtFine/train", "no folder", "gtFine_trainvaltest.zip"],
        ),
        (
            lambda root: shutil.rmtree(root / "gtFine/train/ulm"),
            ["no label map for leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png"],
        ),
        (
            lambda root: shutil.rmtree(root / "leftImg8bit/train/ulm"),
            ["no image for gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png"],
        ),
        (without_ulm, ["leftImg8bit/train", "1 images", "2"]),
    ],
)
def test_a_folder_that_is_not_whole(
    spoil: Callable[[Path], object], said: list[object], root: Path, tmp_path: Path
) -> None:
    spoil(root)
    with pytest.raises(MoonshineError, match=naming(*said)):
        prepare_dataset(config_of(root), tmp_path / "data")


def test_files_without_a_partner_are_named_at_once(root: Path, tmp_path: Path) -> None:
    stem = "aachen/aachen_000000_000019"
    (root / f"leftImg8bit/train/{stem}_leftImg8bit.png").unlink()
    (root / "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png").unlink()
    (root / "gtFine/val/munster/munster_000000_000019_gtFine_labelIds.png").unlink()
    said = (
        r"no label map for leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit\.png, "
        r"leftImg8bit/val/munster/munster_000000_000019_leftImg8bit\.png; "
        rf"no image for gtFine/train/{stem}_gtFine_labelIds\.png; .*gtFine_trainvaltest\.zip"
    )
    with pytest.raises(MoonshineError, match=said):
        prepare_dataset(config_of(root), tmp_path / "data")
