"""Typed JSON files: what is read is checked, what is written reads back, and damage is named."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from moonshine.errors import MoonshineError
from moonshine.json_model import JsonModel
from tests.messages import naming


class Box(JsonModel):
    only_given: ClassVar[bool] = True
    name: str
    size: tuple[int, int]
    lid: str | None = None


def test_what_is_written_reads_back_and_only_what_was_given_is_written(tmp_path: Path) -> None:
    path = tmp_path / "box.json"
    box = Box(size=(3, 4), name="a")
    box.write(path)
    assert path.read_text() == '{\n "name": "a",\n "size": [\n  3,\n  4\n ]\n}\n'
    assert Box.read(path) == box
    Box(size=(3, 4), name="a", lid=None).write(path)
    assert '"lid": null' in path.read_text()


def test_keys_of_a_newer_version_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "box.json"
    path.write_text('{"name": "a", "size": [3, 4], "colour": "red"}')
    assert Box.read(path) == Box(name="a", size=(3, 4))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": "a"}', ["size", "missing"]),
        ('{"name": 3, "size": [3, 4]}', ["name", "3", "valid string"]),
        ('{"name": "a", "size": [3, "4"]}', ["size.1", "4", "valid integer"]),
        ('{"name": "a", "size": [3, true]}', ["size.1", "True", "valid integer"]),
        ("[]", ["[]", "object"]),
        ('{"name": ', ["not readable as JSON"]),
        (None, ["no such file"]),
    ],
)
def test_a_damaged_file_is_named(text: str | None, said: list[str], tmp_path: Path) -> None:
    path = tmp_path / "box.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MoonshineError, match=naming("box.json", *said)):
        Box.read(path)
