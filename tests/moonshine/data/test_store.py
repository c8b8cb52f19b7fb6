from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from moonshine.data import store
from moonshine.data.description import Description
from moonshine.data.encoded import EncodedSplit, Packed
from moonshine.data.store import ARRAYS, DESCRIPTION, LostArrays, load_dataset, write_dataset
from moonshine.errors import MoonshineError
from moonshine.files import sha256
from tests.messages import naming
from tests.moonshine.images import images_of


def tensors_of(train: int = 6, validation: int = 2, test: int = 3) -> dict[str, Tensor]:
    tensors = {}
    for name, count in (("train", train), ("validation", validation), ("test", test)):
        if count:
            generator = torch.Generator().manual_seed(count)
            shape = (count, 3, 8, 10)
            tensors[f"{name}_images"] = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
            tensors[f"{name}_labels"] = torch.arange(count) % 2
    return tensors


def describe(train: int = 6, validation: int = 2, test: int = 3, **changes: Any) -> dict[str, Any]:
    return {
        "name": "toy",
        "counts": {"train": train, "validation": validation, "test": test},
        "channels": 3,
        "height": 8,
        "width": 10,
        "num_classes": 2,
        "class_names": ["cat", "dog"],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.1, 0.2, 0.3],
        "source": "toys",
        **changes,
    }


def described(train: int = 6, validation: int = 2, test: int = 3, **changes: Any) -> Description:
    return Description.model_validate_json(json.dumps(describe(train, validation, test, **changes)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path, tensors_of(), described(), "00ff")
    return tmp_path


def test_what_was_written_is_loaded(folder: Path) -> None:
    data = load_dataset(folder)
    expected = tensors_of()
    assert data.validation is not None
    for name, split in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        assert torch.equal(images_of(split), expected[f"{name}_images"])
        assert torch.equal(split.labels, expected[f"{name}_labels"])
        assert len(split) == len(expected[f"{name}_labels"])
    assert (data.name, data.num_classes, data.class_names) == ("toy", 2, ("cat", "dog"))
    assert (data.mean, data.std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    assert data.input_shape == (3, 8, 10)


def test_data_prepared_before_the_resize_rule_was_recorded(folder: Path, tmp_path: Path) -> None:
    assert load_dataset(folder).resize_rule == {}
    rule = {"resize": 72, "crop": [8, 10], "interpolation": "bilinear", "antialias": True}
    write_dataset(tmp_path / "now", tensors_of(), described(resize_rule=rule), "00ff")
    assert load_dataset(tmp_path / "now").resize_rule == rule


def test_no_validation_split(tmp_path: Path) -> None:
    write_dataset(tmp_path, tensors_of(validation=0), described(validation=0), "00ff")
    assert load_dataset(tmp_path).validation is None


def test_bytes_are_deterministic_and_checksums_true(folder: Path, tmp_path_factory: Any) -> None:
    again = tmp_path_factory.mktemp("again")
    complete = write_dataset(again, dict(reversed(tensors_of().items())), described(), "00ff")
    for name in (ARRAYS, DESCRIPTION):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert Description.read(again / DESCRIPTION) == complete
    actual = hashlib.sha256((again / ARRAYS).read_bytes()).hexdigest()
    assert complete.sha256 == {ARRAYS: actual, "source": "00ff"}


def test_both_files_have_ordinary_permissions(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    modes = {(tmp_path / name).stat().st_mode for name in ("ordinary", ARRAYS, DESCRIPTION)}
    assert len(modes) == 1


def test_nothing_is_left_beside_the_two_files(folder: Path) -> None:
    write_dataset(folder, tensors_of(train=4), described(train=4), "00ff")
    assert sorted(path.name for path in folder.iterdir()) == [ARRAYS, DESCRIPTION]
    assert len(load_dataset(folder).train) == 4


def test_what_a_killed_write_leaves_goes_with_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(tensors: object, path: Path, metadata: object) -> None:
        path.with_name(".tmpAbCdEf").write_bytes(b"half")  # as safetensors calls it
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(store, "save_file", die)
        if not (child := os.fork()):
            write_dataset(folder, tensors_of(train=4), described(train=4), "00ff")
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert len(list(folder.rglob("*"))) > 2
    (folder / f".{ARRAYS}.4711.partial").write_bytes(b"of an older version")
    write_dataset(folder, tensors_of(train=4), described(train=4), "00ff")
    assert sorted(path.name for path in folder.iterdir()) == [ARRAYS, DESCRIPTION]


def test_a_failed_write_leaves_the_finished_files(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    rule = {"resize": object()}
    with pytest.raises(ValueError, match="object"):
        write_dataset(
            folder, tensors_of(train=4), described().model_copy(update={"resize_rule": rule}), "00ff"
        )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MoonshineError, match=naming("file/data", "cannot write")):
        write_dataset(tmp_path / "file" / "data", tensors_of(), described(), "00ff")


@pytest.mark.parametrize("name", [ARRAYS, DESCRIPTION])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(
        MoonshineError,
        match=naming(name, "missing", "python -m moonshine_workflow.stages.fetch"),
    ):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("name", "said"), [(ARRAYS, ["truncated", "damaged"]), (DESCRIPTION, ["damaged", "JSON"])]
)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file(folder: Path, name: str, said: list[object], share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(MoonshineError, match=naming(name, *said)):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (describe(train=5), ["(6, 3, 8, 10)", "(5, 3, 8, 10)"]),
        (describe(channels=1), ["(6, 1, 8, 10)"]),
        (describe(validation=0), ["validation"]),
        (describe(channels=0), ["channels", "0", "greater than or equal to 1"]),
        ({"name": "toy"}, ["counts", "missing"]),
        ([], ["[]", "object"]),
    ],
)
def test_files_that_do_not_belong_together(folder: Path, description: Any, message: list[object]) -> None:
    describe_anew(folder, description)
    with pytest.raises(MoonshineError, match=naming(*message)):
        load_dataset(folder)


def describe_anew(folder: Path, description: Any) -> None:
    """Write another description, which is right about the file of the arrays."""
    if isinstance(description, dict):
        description = description | {"sha256": {ARRAYS: sha256(folder / ARRAYS)}}
    (folder / DESCRIPTION).write_text(json.dumps(description))


@pytest.mark.parametrize("place", [-1, 3, 100, 1000])
def test_a_flipped_bit_of_the_arrays_is_found(folder: Path, place: int) -> None:
    load_dataset(folder)  # verified once, in this state of the file
    content = bytearray((folder / ARRAYS).read_bytes())
    content[place] ^= 1
    (folder / ARRAYS).write_bytes(content)
    with pytest.raises(LostArrays, match=naming(ARRAYS, "checksum", DESCRIPTION)):
        load_dataset(folder)


@pytest.mark.parametrize("change", [{"mean": [0.5, 0.5, 0.4]}, {"class_names": ["a", "b", "c"]}])
def test_an_edited_description_is_found(folder: Path, change: dict[str, Any]) -> None:
    describe_anew(folder, describe(**change))
    with pytest.raises(MoonshineError, match=r"do not belong together \(they describe the data differently"):
        load_dataset(folder)


def test_arrays_are_verified_once_in_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[Path] = []

    def digest(path: Path) -> str:
        verified.append(path)
        return sha256(path)

    monkeypatch.setattr("moonshine.data.store.sha256", digest)
    load_dataset(folder)
    load_dataset(folder)
    assert verified == [folder / ARRAYS]


@pytest.fixture
def encoded(tmp_path: Path) -> Path:
    tensors: dict[str, Tensor] = {}
    for name, count in (("train", 6), ("test", 3)):
        strings = Packed.of([f"{name}/{i}.jpg".encode() for i in range(count)])
        tensors |= {f"{name}_strings": strings.content, f"{name}_ends": strings.ends}
        tensors[f"{name}_labels"] = torch.arange(count) % 2
    rule = {"resize": 12, "crop": [10, 10], "interpolation": "bilinear", "antialias": True}
    write_dataset(tmp_path, tensors, described(validation=0, root="photos", resize_rule=rule), "00ff")
    return tmp_path


def test_what_stays_encoded_is_loaded(encoded: Path) -> None:
    data = load_dataset(encoded)
    assert data.validation is None
    assert isinstance(data.train, EncodedSplit)
    assert (len(data.train), len(data.test)) == (6, 3)
    assert (data.train.root, data.train.resize, data.train.crop) == ("photos", 12, 10)
    assert data.train.name(5) == "train/5.jpg"
    assert data.input_shape == (3, 10, 10)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (describe(validation=0, root=None, train=5), ["6 images", "6 labels", "5"]),
        (describe(validation=0), ["resize"]),
    ],
)
def test_encoded_files_that_do_not_belong_together(
    encoded: Path, description: Any, message: list[object]
) -> None:
    describe_anew(encoded, description)
    with pytest.raises(MoonshineError, match=naming(*message)):
        load_dataset(encoded)


def test_arrays_are_memory_mapped(folder: Path) -> None:
    data = load_dataset(folder)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    assert str(folder / ARRAYS) in maps.read_text()
    assert len(data.train) == 6
