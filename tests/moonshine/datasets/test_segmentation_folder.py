"""The user's own pictures with label maps: what is prepared, and every way in which a folder can be wrong."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from moonshine.data.store import VOID, load_dataset
from moonshine.datasets import segmentation_folder
from moonshine.errors import MoonshineError
from moonshine.preparation.prepare import prepare_dataset
from tests.messages import naming
from tests.moonshine.datasets import scenes
from tests.moonshine.images import images_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return scenes.plant(tmp_path / "mine", {"train": 5, "val": 2})


def test_pictures_and_label_maps_are_prepared(root: Path, tmp_path: Path) -> None:
    description = prepare_dataset(scenes.config_of(root), tmp_path / "data")
    dataset = load_dataset(tmp_path / "data")
    assert dataset.train.is_dense
    assert dataset.input_shape == (3, 16, 24)
    assert description.counts == {"train": 5, "validation": 0, "test": 2}
    for split, seeds in (("train", range(5)), ("test", range(100, 102))):
        found = getattr(dataset, split)
        for index, seed in enumerate(seeds):
            picture, labels = (np.array(image) for image in scenes.scene(seed))
            labels[labels == scenes.VOID] = VOID
            assert torch.equal(found.images[index], torch.from_numpy(picture).permute(2, 0, 1))
            assert torch.equal(found.labels[index], torch.from_numpy(labels))
    assert dataset.class_names == tuple(scenes.CLASSES)
    assert dataset.scored_classes == 3


def test_shares_are_those_of_all_training_pixels_void_among_them(root: Path, tmp_path: Path) -> None:
    prepare_dataset(scenes.config_of(root), tmp_path / "data")
    dataset = load_dataset(tmp_path / "data")
    labels = dataset.train.labels
    expected = [int((labels == label).sum()) / labels.numel() for label in range(3)]
    assert dataset.class_shares == pytest.approx(expected)
    assert sum(dataset.class_shares) == pytest.approx(15 / 16)  # the first row of 16 is void


def test_the_same_folder_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    first, second = (prepare_dataset(scenes.config_of(root), tmp_path / name) for name in ("a", "b"))
    assert first == second


def test_both_are_resized_and_labels_stay_labels(root: Path, tmp_path: Path) -> None:
    prepare_dataset(scenes.config_of(root, size=[8, 12]), tmp_path / "data")
    dataset = load_dataset(tmp_path / "data")
    assert images_of(dataset.train).shape == (5, 3, 8, 12)
    assert dataset.train.labels.shape == (5, 8, 12)
    assert set(dataset.train.labels.unique().tolist()) <= {0, 1, 2, VOID}


def test_val_is_the_test_set_where_there_is_none_and_else_validation(tmp_path: Path) -> None:
    root = scenes.plant(tmp_path / "mine", {"train": 5, "val": 2, "test": 3})
    counts = prepare_dataset(scenes.config_of(root, validation=0.4), tmp_path / "data").counts
    assert counts == {"train": 5, "validation": 2, "test": 3}


def test_validation_is_cut_from_the_training_pictures(root: Path, tmp_path: Path) -> None:
    counts = prepare_dataset(scenes.config_of(root, validation=0.4), tmp_path / "data").counts
    assert counts == {"train": 3, "validation": 2, "test": 2}


def _palette(path: Path) -> None:
    labels = Image.open(path).copy()
    labels.putpalette([channel for colour in range(256) for channel in (colour, 255 - colour, 7)])
    labels.save(path)


def test_label_ids_may_have_colours(root: Path, tmp_path: Path) -> None:
    plain = prepare_dataset(scenes.config_of(root), tmp_path / "plain")
    for path in (root / "labels").glob("*/*.png"):
        _palette(path)
    assert Image.open(path).mode == "P"
    coloured = prepare_dataset(scenes.config_of(root), tmp_path / "coloured")
    assert coloured.sha256["data.safetensors"] == plain.sha256["data.safetensors"]


def _grey(path: Path, bits: int) -> None:
    """Write a label map again in grey of 1 to 16 bits, of which Pillow writes only some."""
    labels = np.array(Image.open(path)).astype(np.int64) % 2**bits
    height, width = labels.shape
    pixels = (labels[..., None] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(pixels.reshape(height, width * bits).astype(np.uint8), axis=1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 16])
def test_grey_of_other_than_8_bits_is_refused(bits: int, root: Path, tmp_path: Path) -> None:
    """Pillow stretches fewer bits over 0 to 255, so that the ids would be others than those in the file."""
    _grey(root / "labels/train/2.png", bits)
    said = rf"labels/train/2\.png is {bits}-bit grey; allowed: label ids in 8-bit grey or in a palette"
    with pytest.raises(MoonshineError, match=said):
        prepare_dataset(scenes.config_of(root), tmp_path / "data")


def test_a_palette_may_have_4_bits(root: Path, tmp_path: Path) -> None:
    plain = prepare_dataset(scenes.config_of(root), tmp_path / "plain")
    for path in (root / "labels").glob("*/*.png"):
        _palette(path)
        Image.open(path).save(path, bits=4)
        assert path.read_bytes()[24] == 4
    packed = prepare_dataset(scenes.config_of(root), tmp_path / "packed")
    assert packed.sha256["data.safetensors"] == plain.sha256["data.safetensors"]


STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> how an upright picture lies in its file."""


def _store(path: Path, orientation: int, *, turned: bool = True, tag: int | None = None) -> None:
    """Write a picture again as a camera does that is held otherwise, or its pixels alone, or the tag alone."""
    picture = Image.open(path)
    exif = Image.Exif()
    if tag is not None:
        exif[0x0112] = tag
    (picture.transpose(STORED[orientation]) if turned else picture).save(path, exif=exif)


@pytest.mark.parametrize(
    ("orientation", "turned", "tag"),
    [
        *(
            (orientation, True, orientation) for orientation in STORED
        ),  # the map lies as its picture does, and says so
        *((orientation, False, 1) for orientation in STORED),  # it is upright, and says so
        *((orientation, True, None) for orientation in (5, 6, 8)),  # its size says it
        *((orientation, False, None) for orientation in (5, 6, 8)),
    ],
)
@pytest.mark.parametrize("size", [None, [8, 12]])
def test_label_maps_are_turned_upright_with_their_pictures(
    orientation: int, turned: bool, tag: int | None, size: list[int] | None, root: Path, tmp_path: Path
) -> None:
    upright = prepare_dataset(scenes.config_of(root, size=size), tmp_path / "upright")
    for name in ("0", "2"):
        _store(root / f"images/train/{name}.png", orientation, tag=orientation)
        _store(root / f"labels/train/{name}.png", orientation, turned=turned, tag=tag)
    found = prepare_dataset(scenes.config_of(root, size=size), tmp_path / "turned")
    assert found.sha256["data.safetensors"] == upright.sha256["data.safetensors"]


def test_a_label_map_of_an_upright_picture_is_turned_by_its_own_orientation(
    root: Path, tmp_path: Path
) -> None:
    upright = prepare_dataset(scenes.config_of(root), tmp_path / "upright")
    _store(root / "labels/train/0.png", 3, tag=3)
    found = prepare_dataset(scenes.config_of(root), tmp_path / "turned")
    assert found.sha256["data.safetensors"] == upright.sha256["data.safetensors"]


@pytest.mark.parametrize(("orientation", "sides"), [(2, (16, 24)), (3, (16, 24)), (6, (16, 16))])
@pytest.mark.parametrize("turned", [False, True])
def test_a_label_map_that_may_lie_either_way_is_refused(
    orientation: int, sides: tuple[int, int], turned: bool, tmp_path: Path
) -> None:
    root = scenes.plant(tmp_path / "mine", {"train": 3, "val": 1}, height=sides[0], width=sides[1])
    _store(root / "images/train/1.png", orientation, tag=orientation)
    _store(root / "labels/train/1.png", orientation, turned=turned)
    said = rf"images/train/1\.png has the EXIF orientation {orientation} and labels/train/1\.png has none"
    with pytest.raises(MoonshineError, match=said):
        prepare_dataset(scenes.config_of(root), tmp_path / "data")


def _paint(path: Path, label: int) -> None:
    labels = np.array(Image.open(path))
    labels[5, 5] = label
    Image.fromarray(labels).save(path)


def _resave(path: Path, change: Callable[[Image.Image], Image.Image]) -> None:
    change(Image.open(path)).save(path)


def _shrink(root: Path, name: str) -> None:
    for folder in ("images", "labels"):
        _resave(root / folder / name, lambda picture: picture.resize((12, 8)))


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:90])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "labels/train/3.png").unlink(), ["images/train/3.png"]),
        (lambda root: (root / "images/val/1.png").unlink(), ["labels/val/1.png"]),
        (lambda root: shutil.rmtree(root / "labels"), ["labels/train/", "images/<split>/"]),
        (lambda root: shutil.rmtree(root / "images/val"), ["test/", "val/"]),
        (
            lambda root: _paint(root / "labels/train/2.png", 7),
            ["labels/train/2.png", "7", "0 to 2", "void 9"],
        ),
        (
            lambda root: _resave(root / "labels/val/0.png", lambda x: x.resize((24, 8))),
            ["images/val/0.png", "24x16", "labels/val/0.png", "24x8"],
        ),
        (
            lambda root: _shrink(root, "train/1.png"),
            ["images/train/1.png", "12x8", "24x16", "data.size"],
        ),
        (
            lambda root: _resave(root / "labels/train/0.png", lambda x: x.convert("RGB")),
            ["labels/train/0.png", "RGB", "8-bit", "palette"],
        ),
        (
            lambda root: (root / "images/train/4.png").write_bytes(b"no image"),
            ["images/train/4.png", "labels/train/4.png", "cannot be read"],
        ),
        (lambda root: _cut_short(root / "images/train/4.png"), ["images/train/4.png"]),
        (
            lambda root: (root / "images/train/4.jpg").write_bytes(b""),
            ["images/train", "two images of one name"],
        ),
    ],
)
def test_a_folder_that_is_wrong_says_where(
    spoil: Callable[[Path], object], said: list[object], root: Path, tmp_path: Path
) -> None:
    spoil(root)
    with pytest.raises(MoonshineError, match=naming(*said)):
        prepare_dataset(scenes.config_of(root), tmp_path / "data")
    assert not list(tmp_path.glob("data/*"))


def test_a_label_out_of_range_is_found_where_resizing_drops_its_pixel(root: Path, tmp_path: Path) -> None:
    _paint(root / "labels/train/2.png", 7)
    with pytest.raises(MoonshineError, match=naming("labels/train/2.png", "7", "0 to 2", "void 9")):
        prepare_dataset(scenes.config_of(root, size=[8, 8]), tmp_path / "data")


def test_files_without_a_partner_are_named_at_once(root: Path, tmp_path: Path) -> None:
    for name in ("labels/train/1.png", "images/train/3.png", "labels/val/0.png", "images/val/1.png"):
        (root / name).unlink()
    said = (
        r"no label map for images/train/1\.png, images/val/0\.png; "
        r"no image for labels/train/3\.png, labels/val/1\.png"
    )
    with pytest.raises(MoonshineError, match=said):
        segmentation_folder.list_pairs(root)


def test_it_says_how_many_more_are_wrong(tmp_path: Path) -> None:
    root = scenes.plant(tmp_path / "mine", {"train": 12, "val": 1})
    for path in (root / "images").glob("*/*.png"):  # the first one, which says the size, among them
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(MoonshineError, match=naming("13 images", "images/train/0.png", "3 more")):
        prepare_dataset(scenes.config_of(root), tmp_path / "data")


def test_a_damaged_first_picture_is_named_among_the_others(root: Path, tmp_path: Path) -> None:
    for name in ("0", "2"):
        (root / f"images/train/{name}.png").write_bytes(b"no image")
    with pytest.raises(MoonshineError, match=naming("2 images", "images/train/0.png", "images/train/2.png")):
        prepare_dataset(scenes.config_of(root), tmp_path / "data")


def test_every_wrong_file_is_named(root: Path, tmp_path: Path) -> None:
    for split, name in (("train", "1"), ("train", "3"), ("val", "0")):
        _paint(root / "labels" / split / f"{name}.png", 8)
    with pytest.raises(MoonshineError, match=naming("3 images", "train/1.png", "train/3.png", "val/0.png")):
        prepare_dataset(scenes.config_of(root), tmp_path / "data")


def _blank(root: Path, split: str) -> None:
    for path in (root / "labels" / split).glob("*.png"):
        _resave(path, lambda labels: labels.point(lambda _: scenes.VOID))


@pytest.mark.parametrize(("folder", "split"), [("test", "test"), ("val", "validation")])
def test_a_split_without_any_label_cannot_be_scored(folder: str, split: str, tmp_path: Path) -> None:
    root = scenes.plant(tmp_path / "mine", {"train": 5, "val": 2, "test": 2})
    _blank(root, folder)
    with pytest.raises(MoonshineError, match=naming("data.root", "mine", split, "at least one")):
        prepare_dataset(scenes.config_of(root), tmp_path / "data")
    assert not list(tmp_path.glob("data/*"))


def test_a_class_that_no_training_picture_shows(root: Path, tmp_path: Path) -> None:
    config = scenes.config_of(root, classes=[*scenes.CLASSES, "dragon"])
    said = r"no training image shows dragon \(label 3\); the label maps hold 0, 1, 2, void \(9\); allowed: each class"
    with pytest.raises(MoonshineError, match=said):
        prepare_dataset(config, tmp_path / "data")


def test_masks_of_0_and_255_are_told_what_255_is(root: Path, tmp_path: Path) -> None:
    for path in (root / "labels").glob("*/*.png"):
        _resave(path, lambda labels: labels.point(lambda label: 255 * (label == 1)))
    config = scenes.config_of(root, classes=["background", "thing"], void=255)
    said = r"shows thing \(label 1\); the label maps hold 0, void \(255\); .* has to say 1 where it says 255"
    with pytest.raises(MoonshineError, match=said):
        prepare_dataset(config, tmp_path / "data")


def test_partners_have_one_name_in_every_unicode_form(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "images/train/1.png").rename(root / "images/train/caf\u00e9.png")
    (root / "labels/train/1.png").rename(root / "labels/train/cafe\u0301.png")
    (root / "images/train/1.gif").write_bytes(b"")
    (root / "images/train/folder").mkdir()
    assert ("images/train/caf\u00e9.png", "labels/train/cafe\u0301.png") in segmentation_folder.list_pairs(
        root
    )["train"]
    assert "images/train: files that are no images were passed over: 1 .gif; read" in caplog.text


def test_another_folder_than_the_study_says(root: Path, tmp_path: Path) -> None:
    before = segmentation_folder.checksum_segmentation_folder(root)
    _paint(root / "labels/train/0.png", 1)
    assert segmentation_folder.checksum_segmentation_folder(root) != before
    with pytest.raises(MoonshineError, match=naming("data.sha256", "checksum")):
        prepare_dataset(scenes.config_of(root, sha256=before), tmp_path / "data")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"void": 2}, ["void", "2", "ball"]),
        ({"classes": ["a", "a"]}, ["a", "twice"]),
    ],
)
def test_a_section_that_contradicts_itself(
    changes: dict[str, object], said: list[object], root: Path
) -> None:
    with pytest.raises(ValueError, match=naming(*said)):
        scenes.config_of(root, **changes)
