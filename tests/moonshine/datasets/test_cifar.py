"""torchvision's own code on small archives of the same layout; nothing is downloaded."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moonshine.data.store import load_dataset
from moonshine.datasets.cifar import Cifar
from moonshine.errors import MoonshineError
from moonshine.preparation.prepare import prepare_dataset
from tests.messages import naming
from tests.moonshine.images import images_of

NAMES = ("cat", "dog")
ARCHIVE = "tiny.tar.gz"
BATCHES = ("a", "bb", "ccc")


def config_of(root: Path, name: str = "cifar10", **changes: Any) -> Cifar:
    options = {"root": str(root), "size": 32, "validation": 0.0, "split_seed": 0}
    return Cifar(name=name, **{**options, **changes})  # type: ignore[arg-type]


def pixels_of(file: str) -> np.ndarray:
    return np.random.RandomState(len(file)).randint(256, size=(10, 3 * 32 * 32)).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the archive of a tiny CIFAR-10; torchvision knows its checksums and a dead address."""
    from torchvision.datasets import CIFAR10

    files: dict[str, Any] = {
        file: {"data": pixels_of(file), "labels": (np.arange(10) % 2).tolist()} for file in BATCHES
    }
    files["meta"] = {"label_names": list(NAMES)}
    folder = tmp_path / "origin" / "tiny"
    folder.mkdir(parents=True)
    md5 = {}
    for file, content in files.items():
        (folder / file).write_bytes(pickle.dumps(content))
        md5[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / ARCHIVE, "w:gz") as tar:
        tar.add(folder, "tiny")
    monkeypatch.setattr(CIFAR10, "base_folder", "tiny")
    monkeypatch.setattr(CIFAR10, "url", (tmp_path / "absent.tar.gz").as_uri())
    monkeypatch.setattr(CIFAR10, "filename", ARCHIVE)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((root / ARCHIVE).read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [["a", md5["a"]], ["bb", md5["bb"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["ccc", md5["ccc"]]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": md5["meta"]})
    return root


def test_extracted_verified_and_prepared(root: Path, tmp_path: Path) -> None:
    description = prepare_dataset(config_of(root, validation=0.2), tmp_path / "data")
    data = load_dataset(tmp_path / "data")
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (16, 4, 10)
    assert data.class_names == NAMES
    assert data.input_shape == (3, 32, 32)
    assert torch.equal(images_of(data.test).flatten(1), torch.from_numpy(pixels_of("ccc")))
    expected = {file: hashlib.sha256((root / "tiny" / file).read_bytes()).hexdigest() for file in BATCHES}
    assert description.sha256["source"] == expected


def test_what_is_there_needs_no_archive(root: Path, tmp_path: Path) -> None:
    first = prepare_dataset(config_of(root), tmp_path / "data")
    (root / ARCHIVE).unlink()
    assert prepare_dataset(config_of(root), tmp_path / "data") == first


@pytest.mark.parametrize("damaged", ["tiny/bb", "tiny/ccc", ARCHIVE])
def test_a_damaged_file_that_cannot_be_fetched(root: Path, tmp_path: Path, damaged: str) -> None:
    if damaged != ARCHIVE:
        prepare_dataset(config_of(root), tmp_path / "before")
        (root / ARCHIVE).unlink()
    (root / damaged).write_bytes((root / damaged).read_bytes()[:-1])
    with pytest.raises(MoonshineError, match=naming("data.root", "cifar10", "downloaded", "root")):
        prepare_dataset(config_of(root), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_cifar100_has_its_own_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR100

    monkeypatch.setattr(CIFAR100, "url", (tmp_path / "absent.tar.gz").as_uri())
    with pytest.raises(MoonshineError, match=naming("data.root", "cifar100", "downloaded")):
        prepare_dataset(config_of(tmp_path / "root", "cifar100"), tmp_path / "data")
