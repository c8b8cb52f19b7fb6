"""ImageNet as torchvision extracts it, in miniature: what is whole, and what each half-way state is answered with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moonshine.data.batches import batches
from moonshine.data.encoded import EncodedSplit
from moonshine.data.store import load_dataset
from moonshine.datasets import imagenet
from moonshine.datasets.imagenet import Imagenet
from moonshine.datasets.kind import Normalisation
from moonshine.errors import MoonshineError
from moonshine.preparation.prepare import prepare_dataset
from tests.messages import names
from tests.moonshine.data.photographs import encoded, photograph

WNIDS = ("n01440764", "n01443537", "n01484850")


def config_of(root: Path, **changes: Any) -> Imagenet:
    normalisation = Normalisation(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    options = {"root": str(root), "resize": 18, "crop": 16, "validation": 0.0, "split_seed": 0}
    return Imagenet(name="imagenet", normalisation=normalisation, **{**options, **changes})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes with four training images and two others each, and a library that knows of no more."""
    root = tmp_path / "imagenet"
    for split, count in (("train", 4), ("val", 2)):
        for label, wnid in enumerate(WNIDS):
            (root / split / wnid).mkdir(parents=True)
            for i in range(count):
                name = f"{wnid}_{i}.JPEG" if split == "train" else f"ILSVRC2012_val_{3 * i + label:08}.JPEG"
                (root / split / wnid / name).write_bytes(encoded(photograph(10 * label + i)))
    monkeypatch.setattr(imagenet, "_CLASSES", 3)
    monkeypatch.setattr(imagenet, "_COUNTS", {"train": 12, "val": 6})
    monkeypatch.setattr(imagenet, "_SMALLEST_CLASS", {"train": 4, "val": 2})
    monkeypatch.setattr(imagenet, "class_names", lambda: ["tench", "goldfish", "great white shark"])
    return root


def test_what_torchvision_extracted_is_prepared(root: Path, tmp_path: Path) -> None:
    for extra in ("test/flat.JPEG", "meta.bin", "ILSVRC2012_img_train.tar", "train/.DS_Store"):
        (root / extra).parent.mkdir(exist_ok=True)
        (root / extra).write_bytes(b"passed over")
    description = prepare_dataset(config_of(root, validation=0.25), tmp_path / "data")
    data = load_dataset(tmp_path / "data")
    assert description.counts == {"train": 9, "validation": 3, "test": 6}
    assert data.class_names == ("tench", "goldfish", "great white shark")
    assert data.input_shape == (3, 16, 16)
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert isinstance(data.test, EncodedSplit)
    assert data.test.name(2) == "val/n01443537/ILSVRC2012_val_00000001.JPEG"
    images, labels = next(
        batches(
            data.test, batch_size=6, seed=0, epoch=0, augment=None, mean=data.mean, std=data.std, device="cpu"
        )
    )
    assert images.shape == (6, 3, 16, 16)
    assert labels.sum() == 6


def test_classes_are_in_the_order_of_torchvisions_weights() -> None:
    names = imagenet.class_names()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[1], names[999]) == ("tench", "goldfish", "toilet tissue")


def half_train(root: Path) -> None:
    (root / "train" / WNIDS[1] / f"{WNIDS[1]}_3.JPEG").unlink()


def no_root(root: Path) -> None:
    root.rename(root.parent / "elsewhere")


def tars_only(root: Path) -> None:
    (root / "train").rename(root.parent / "elsewhere")
    (root / "ILSVRC2012_img_train.tar").write_bytes(b"")


def flat_val(root: Path) -> None:
    for path in list((root / "val").glob("*/*")):
        path.rename(root / "val" / path.name)


def half_flat_val(root: Path) -> None:
    path = min((root / "val").glob("*/*"))
    path.rename(root / "val" / path.name)


def no_val(root: Path) -> None:
    (root / "val").rename(root / "validation")


def missing_class(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / WNIDS[0]).rename(root.parent / f"{split}-elsewhere")


def missing_val_class(root: Path) -> None:
    (root / "val" / WNIDS[0]).rename(root.parent / "elsewhere")


def other_val_class(root: Path) -> None:
    (root / "val" / WNIDS[0]).rename(root / "val" / "n99999999")


def empty_class(root: Path) -> None:
    for path in (root / "train" / WNIDS[0]).iterdir():
        path.unlink()


def other_names(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / WNIDS[0]).rename(root / split / "tench")


def one_too_many(root: Path) -> None:
    (root / "val" / WNIDS[0] / "copy.JPEG").write_bytes(b"")


HALF_WAY = {
    no_root: "imagenet is no folder",
    tars_only: r"holds no train/ \(found: val\)",
    flat_val: "val has images beside its class folders: ILSVRC2012_val_00000000.JPEG",
    half_flat_val: "val has images beside its class folders: ILSVRC2012_val_00000000.JPEG",
    no_val: r"holds no val/ \(found: train, validation\)",
    missing_class: "train has 2 class folders; allowed: 3",
    missing_val_class: "val has 2 class folders; allowed: 3",
    other_val_class: "val has class folders that train/ has not: n99999999",
    empty_class: "empty class folders: train/n01440764",
    other_names: "folders that are no WordNet ids: tench",
    half_train: r"train holds 11 images; allowed: 12 \(too few in n01443537 \(3\)\)",
    one_too_many: "val holds 7 images; allowed: 6",
}


@pytest.mark.parametrize("damage", HALF_WAY)
def test_what_is_missing_or_half_extracted_is_answered_with_what_belongs_where(
    damage: Any, root: Path, tmp_path: Path
) -> None:
    damage(root)
    with pytest.raises(MoonshineError, match=HALF_WAY[damage]) as error:
        prepare_dataset(config_of(root), tmp_path / "data")
    said = str(error.value)
    assert said.startswith("data.root: ")
    assert names(said, "12 images", "train/<wnid>/*.JPEG", "6", "val/<wnid>/*.JPEG", "3 folders", root)
    assert "licence leaves the download to you" in said
    assert f"ImageNet('{root}', split)" in said
    assert not (tmp_path / "data").exists()


def test_the_real_numbers() -> None:
    assert imagenet._CLASSES == 1000
    assert imagenet._COUNTS == {"train": 1_281_167, "val": 50_000}
