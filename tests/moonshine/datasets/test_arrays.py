from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moonshine.data.store import load_dataset
from moonshine.datasets.arrays import Arrays
from moonshine.errors import MoonshineError
from moonshine.preparation.prepare import prepare_dataset
from tests.messages import naming
from tests.moonshine.images import images_of

Write = Callable[..., Arrays]


def content(**changes: Any) -> dict[str, Any]:
    """30 training and 12 test images of 8x9 pixels, 3 channels, 3 classes; None leaves an array out."""
    draws = np.random.RandomState(0)
    arrays = {
        "train_images": draws.randint(256, size=(30, 8, 9, 3)).astype(np.uint8),
        "train_labels": np.arange(30) % 3,
        "test_images": draws.randint(256, size=(12, 8, 9, 3)).astype(np.uint8),
        "test_labels": np.arange(12) % 3,
    }
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


def config_of(path: Path, **changes: Any) -> Arrays:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else 64 * "0"
    options = {"path": str(path), "sha256": sha256, "size": None, "validation": 0.0, "split_seed": 0}
    return Arrays(name="arrays", **{**options, **changes})


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_npz(config: dict[str, Any] | None = None, **changes: Any) -> Arrays:
        path = tmp_path / "my.npz"
        np.savez(path, **content(**changes))
        return config_of(path, **(config or {}))

    return write_npz


def test_arrays_become_channel_first_splits(write: Write, tmp_path: Path) -> None:
    config = write()
    description = prepare_dataset(config, tmp_path / "data")
    data = load_dataset(tmp_path / "data")
    expected = content()
    assert torch.equal(
        images_of(data.train), torch.from_numpy(expected["train_images"].transpose(0, 3, 1, 2).copy())
    )
    assert torch.equal(
        images_of(data.test), torch.from_numpy(expected["test_images"].transpose(0, 3, 1, 2).copy())
    )
    assert data.train.labels.tolist() == expected["train_labels"].tolist()
    assert data.validation is None
    assert (data.num_classes, data.class_names) == (3, ("0", "1", "2"))
    assert description.counts == {"train": 30, "validation": 0, "test": 12}
    assert description.sha256["source"] == config.sha256
    assert description.source == "my.npz"


def test_statistics_are_those_of_the_training_images(write: Write, tmp_path: Path) -> None:
    prepare_dataset(write({"validation": 0.2}), tmp_path / "data")
    data = load_dataset(tmp_path / "data")
    assert data.validation is not None
    assert len(data.train) == 24
    pixels = images_of(data.train).numpy().astype(np.float64) / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)), rel=1e-12)
    assert data.std == pytest.approx(pixels.std((0, 2, 3)), rel=1e-12)


def test_validation_is_cut_from_train(write: Write, tmp_path: Path) -> None:
    prepare_dataset(write({"validation": 0.2}), tmp_path / "data")
    data = load_dataset(tmp_path / "data")
    assert data.validation is not None
    assert data.validation.labels.bincount().tolist() == [2, 2, 2]
    together = torch.cat([images_of(data.train), images_of(data.validation)]).flatten(1).tolist()
    expected = content()["train_images"].transpose(0, 3, 1, 2).reshape(30, -1).tolist()
    assert sorted(together) == sorted(expected)


def test_validation_of_the_file_comes_before_the_share(write: Write, tmp_path: Path) -> None:
    own = {"val_images": content()["test_images"][:5], "val_labels": np.arange(5) % 3}
    description = prepare_dataset(write({"validation": 0.2}, **own), tmp_path / "data")
    assert description.counts == {"train": 30, "validation": 5, "test": 12}
    data = load_dataset(tmp_path / "data")
    assert data.validation is not None
    assert data.validation.labels.tolist() == [0, 1, 2, 0, 1]
    assert torch.equal(images_of(data.validation), images_of(data.test)[:5])


def test_grey_images_and_column_labels(write: Write, tmp_path: Path) -> None:
    full = content()
    changes = {key: full[key][..., 0] for key in ("train_images", "test_images")}
    changes |= {key: full[key][:, None].astype(np.uint8) for key in ("train_labels", "test_labels")}
    prepare_dataset(write(**changes), tmp_path / "data")
    data = load_dataset(tmp_path / "data")
    assert data.input_shape == (1, 8, 9)
    assert torch.equal(images_of(data.train)[:, 0], torch.from_numpy(changes["train_images"]))
    assert data.train.labels.dtype == torch.int64


@pytest.mark.parametrize("size", [8, 12])
def test_images_are_resized(write: Write, tmp_path: Path, size: int) -> None:
    flat = {
        key: np.repeat(np.arange(n, dtype=np.uint8), 8 * 9 * 3).reshape(n, 8, 9, 3)
        for key, n in (("train_images", 30), ("test_images", 12))
    }
    prepare_dataset(write({"size": size}, **flat), tmp_path / "data")
    data = load_dataset(tmp_path / "data")
    assert data.input_shape == (3, size, size)
    assert torch.equal(
        images_of(data.train), torch.arange(30, dtype=torch.uint8).view(-1, 1, 1, 1).expand(30, 3, size, size)
    )


def test_more_images_than_one_chunk(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepare_dataset(write(), tmp_path / "whole")
    monkeypatch.setattr("moonshine.preparation.images.CHUNK", 7)
    assert prepare_dataset(write(), tmp_path / "chunks") == whole


def test_the_same_study_gives_the_same_bytes(write: Write, tmp_path: Path) -> None:
    config = write({"validation": 0.2})
    for folder in ("one", "two"):
        prepare_dataset(config, tmp_path / folder)
    for name in ("data.safetensors", "dataset.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    prepare_dataset(write({"validation": 0.2, "split_seed": 1}), tmp_path / "two")
    assert (tmp_path / "one" / name).read_bytes() != (tmp_path / "two" / name).read_bytes()


IMAGES = content()["train_images"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": IMAGES / 255}, ["train_images", "float64", "uint8"]),
        ({"train_images": IMAGES.astype(np.int16)}, ["train_images", "int16", "uint8"]),
        (
            {"train_images": IMAGES.reshape(30, -1)},
            ["train_images", "(30, 216)", "(N, height"],
        ),
        (
            {"train_images": IMAGES[:0], "train_labels": np.arange(0)},
            ["train_images", "(0, 8, 9, 3)"],
        ),
        ({"train_images": IMAGES.transpose(0, 3, 1, 2)}, ["height 3", "width 8", "9 channels", "8x8"]),
        ({"train_images": IMAGES[:, :7]}, ["height 7", "width 9", "8x8"]),
        ({"test_images": IMAGES[:12, :, :8]}, ["test_images", "(8, 8, 3)", "(8, 9, 3)"]),
        ({"test_images": IMAGES[:12, ..., 0]}, ["test_images", "(8, 9, 1)", "(8, 9, 3)"]),
        ({"train_images": IMAGES[:29]}, ["train", "29 images", "30 labels"]),
        ({"test_labels": np.arange(11) % 3}, ["test", "12 images", "11 labels"]),
        ({"train_labels": np.arange(30) % 3 / 1.0}, ["train_labels", "float64", "integers"]),
        ({"train_labels": np.arange(30) % 2 == 0}, ["train_labels", "bool", "integers"]),
        ({"train_labels": np.eye(3, dtype=np.int64)[np.arange(30) % 3]}, ["(30, 3)", "(N,)"]),
        ({"train_labels": np.arange(30) % 3 - 1}, ["train_labels", "-1", "index 0"]),
        ({"test_labels": np.arange(12) % 4}, ["test_labels", "3 at index 3", "0 to 2"]),
        ({"train_labels": np.arange(30) % 3 + 1}, ["1 to 3", "class 0"]),
        ({"train_labels": np.where(np.arange(30) == 7, 255, np.arange(30) % 3)}, ["0 to 255", "class 3"]),
        ({"train_labels": np.zeros(30, dtype=np.int64)}, ["train_labels", "class 0"]),
        ({"train_images": np.full_like(IMAGES, 9)}, ["channel 0", "9"]),
        ({"test_labels": None}, ["test_labels", "train_images"]),
        ({"val_images": IMAGES}, ["val_labels", "val_images"]),
        (
            {"val_images": IMAGES[:3], "val_labels": np.array([0, 1, 5])},
            ["validation_labels", "5 at index 2"],
        ),
        ({"train_images": np.array([{}] * 30)}, ["cannot be read", ".npz", "allow_pickle"]),
    ],
)
def test_bad_arrays_name_what_is_wrong(
    write: Write, tmp_path: Path, changes: dict[str, Any], message: list[object]
) -> None:
    config = write(**changes)
    with pytest.raises(MoonshineError, match=naming(*message)) as error:
        prepare_dataset(config, tmp_path / "data")
    assert "my.npz" in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("shape", "stated", "said"),
    [
        ((16, 16, 16), None, ["(16, 16, 16)", "4 channels", "channels: 16"]),  # volumes
        ((8, 32, 32), None, ["(8, 32, 32)", "channels: 32"]),  # channels first
        ((8, 32, 32), 8, ["32 channels", "8"]),
        ((8, 9, 5), None, ["channels: 5"]),
        ((8, 9), 13, ["1 channels", "13"]),
    ],
)
def test_many_channels_must_be_stated(
    write: Write, tmp_path: Path, shape: tuple[int, ...], stated: int | None, said: list[object]
) -> None:
    images = {
        f"{split}_images": np.random.RandomState(0).randint(256, size=(count, *shape)).astype(np.uint8)
        for split, count in (("train", 30), ("test", 12))
    }
    with pytest.raises(MoonshineError, match=naming("data.channels", *said)):
        prepare_dataset(write({"channels": stated}, **images), tmp_path / "data")
    if shape == (8, 9, 5):
        assert prepare_dataset(write({"channels": 5}, **images), tmp_path / "data").channels == 5


def test_a_share_that_leaves_a_class_empty(write: Write, tmp_path: Path) -> None:
    with pytest.raises(MoonshineError, match=naming("data.validation", "0.01", "class 0")):
        prepare_dataset(write({"validation": 0.01}), tmp_path / "data")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MoonshineError, match=naming("data.path", "absent.npz", "not a file")):
        prepare_dataset(config_of(tmp_path / "absent.npz"), tmp_path / "data")


def test_a_wrong_checksum_shows_the_right_one(write: Write, tmp_path: Path) -> None:
    config = write()
    wrong = config.model_copy(update={"sha256": 64 * "a"})
    with pytest.raises(MoonshineError, match=naming(config.sha256, 64 * "a")):
        prepare_dataset(wrong, tmp_path / "data")


def test_bad_data_leaves_finished_files_alone(write: Write, tmp_path: Path) -> None:
    prepare_dataset(write(), tmp_path / "data")
    before = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    with pytest.raises(MoonshineError):
        prepare_dataset(write(test_labels=None), tmp_path / "data")
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_file(write: Write, tmp_path: Path, share: float) -> None:
    path = Path(write().path)
    full = path.read_bytes()
    path.write_bytes(full[: int(share * len(full))])
    with pytest.raises(MoonshineError, match=naming("my.npz", "truncated", ".npz")):
        prepare_dataset(config_of(path), tmp_path / "data")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_corrupt_file(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "my.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for key, array in content().items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(f"{key}.npy", buffer.getvalue())
    prepare_dataset(config_of(path), tmp_path / "sound")
    damaged = bytearray(path.read_bytes())
    damaged[800:1200] = bytes(400)
    path.write_bytes(damaged)
    with pytest.raises(MoonshineError, match=naming("cannot be read", ".npz")):
        prepare_dataset(config_of(path), tmp_path / "data")


@pytest.mark.parametrize(
    "shape", ["(640000000000,)", "(1, -1)", "(10, 10)" * 2000, "(" * 3000, "(1" + "0" * 5000 + ",)"]
)
def test_a_member_that_claims_what_is_not_there(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "my.npz"
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    with zipfile.ZipFile(path, "w") as archive:
        for key in content():
            archive.writestr(f"{key}.npy", b"\x93NUMPY\2\0" + len(header).to_bytes(4, "little") + header)
    with pytest.raises(MoonshineError, match=naming("data.path", "my.npz", "cannot be read", ".npz")):
        prepare_dataset(config_of(path), tmp_path / "data")


@pytest.mark.parametrize("what", ["text", "npy", "zip"])
def test_a_file_of_another_kind(tmp_path: Path, what: str) -> None:
    path = tmp_path / "my.npz"
    if what == "text":
        path.write_text("label,pixel\n")
    elif what == "npy":
        with path.open("wb") as file:
            np.save(file, np.arange(3))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for key in content():
                archive.writestr(key, b"not an array")
    with pytest.raises(MoonshineError, match=r"truncated or not a \.npz|is no array"):
        prepare_dataset(config_of(path), tmp_path / "data")
