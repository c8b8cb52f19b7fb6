from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonshine.data.encoded import Packed
from tests.moonshine.data.photographs import album, filed, packed


@given(st.lists(st.binary(max_size=5), max_size=6))
def test_strings_come_back_as_they_were_packed(strings: list[bytes]) -> None:
    found = Packed.of(strings)
    assert len(found) == len(strings)
    assert [found[i] for i in range(len(strings))] == strings


def test_packed_pictures_and_files_are_read_alike(tmp_path: Path) -> None:
    contents = album(4)
    for split in (packed(contents), filed(tmp_path, contents)):
        assert len(split) == 4
        assert split.image_shape == (3, 16, 16)
        assert [split.read(i) for i in range(4)] == contents
        again = pickle.loads(pickle.dumps(split))  # as it travels to a process that is not forked
        assert again.read(3) == split.read(3)
        assert split.to("cpu") is split


def test_a_file_is_named_by_its_path_and_must_be_there(tmp_path: Path) -> None:
    split = filed(tmp_path, album(2))
    assert split.name(1) == "train/é/1.jpg"
    (tmp_path / split.name(1)).unlink()
    with pytest.raises(FileNotFoundError):
        split.read(1)
    assert packed(album(2)).name(1) == "image 1"
