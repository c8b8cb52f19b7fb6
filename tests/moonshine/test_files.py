"""Files are whole or absent, equal content is equal bytes, and errors name the path."""

from __future__ import annotations

import copy
import fcntl
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from moonshine import MoonshineError
from moonshine.files import draft, read_csv, read_json, sha256, write_bytes, write_csv, write_json
from tests.messages import naming


def test_json_bytes_do_not_depend_on_the_order_of_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "y": [1.5, None]})
    write_json(tmp_path / "b", {"y": [1.5, None], "x": 1})
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")
    assert read_json(tmp_path / "a") == {"x": 1, "y": [1.5, None]}


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.json"
    write_bytes(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(MoonshineError, match=naming("metrics.json", "No space left")):
        write_bytes(path, b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["metrics.json"]
    assert path.read_bytes() == b"old"


def killed(work: Callable[[], object]) -> None:
    """Do something in a process that is killed in its midst, as `die` says."""
    if not (child := os.fork()):
        work()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("module", "call"), [(tempfile, "mkdtemp"), (fcntl, "flock"), (os, "replace")])
def test_what_a_killed_write_leaves_goes_with_the_next_write(
    module: ModuleType, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "epoch-[1].pt"
    with monkeypatch.context() as patch:
        before = getattr(module, call)
        patch.setattr(module, call, lambda *args: die(before(*args)))
        killed(lambda: write_bytes(path, b"half"))
    assert [one for one in tmp_path.iterdir() if one.name.startswith(".epoch-[1].pt.")]
    (tmp_path / ".epoch-[1].pt.4711.part").write_bytes(b"of an older version")
    (tmp_path / ".epoch-1.pt.4711.part").write_bytes(b"another file's")
    write_bytes(path, b"whole")
    assert {one.name for one in tmp_path.iterdir()} == {path.name, ".epoch-1.pt.4711.part"}


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    with draft(path) as mine:
        (mine / "data").write_text("half")
        write_bytes(path, b"another's")
        assert (mine / "data").read_text() == "half"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_where_nothing_can_be_locked_nothing_of_others_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "dataset.json"
    with draft(path) as mine:
        write_bytes(path, b"another's")
        assert mine.is_dir()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_processes_that_write_one_file_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "measurements.json"
    children = []
    for number in range(4):
        if not (child := os.fork()):
            try:
                for _ in range(50):
                    write_bytes(path, str(number).encode() * 100)
            finally:
                os._exit(int(sys.exc_info()[0] is not None))
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert len(set(path.read_text())) == 1
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where a folder should be")
    with pytest.raises(MoonshineError, match=naming("results/digits/x.json", "cannot be written")):
        write_json(tmp_path / "results" / "digits" / "x.json", {})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, ["no such file"]),
        ("{", ["damaged"]),
        ("[1]", ["JSON"]),
        ("[" * 9000, ["damaged"]),
        (f'{{"epoch": {"1" * 5000}}}', ["damaged"]),
        ("\udcff", ["damaged"]),
    ],
)
def test_a_bad_json_file_is_named(tmp_path: Path, content: str | None, said: list[object]) -> None:
    path = tmp_path / "dataset.json"
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(MoonshineError, match=naming("dataset.json", *said)):
        read_json(path)


def test_a_key_that_is_missing_names_the_file_and_is_a_key_error(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset.json", {"counts": {"train": 3}})
    found = read_json(tmp_path / "dataset.json")
    assert found.get("mean") is None
    for missing in (lambda: found["mean"], lambda: found["counts"]["test"]):
        with pytest.raises(MoonshineError, match=r"dataset\.json: damaged.* it has no '(mean|test)'"):
            missing()
    with pytest.raises(KeyError):
        found["mean"]
    assert copy.deepcopy(found) == {"counts": {"train": 3}}
    assert type(found | {}) is dict


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MoonshineError, match=naming(tmp_path, "cannot be read", "Is a directory")):
        read_json(tmp_path)


@pytest.mark.parametrize("content", [b"epoch,loss\n0,\xff\n", b"epoch,loss\n0," + b"1" * 200_000])
def test_a_bad_csv_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(MoonshineError, match=naming("history.csv", "damaged", "CSV")):
        read_csv(tmp_path / "history.csv")


def test_csv_keeps_seven_digits_and_leaves_none_empty(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "h.csv", [{"epoch": 0, "loss": 1 / 3}, {"epoch": 1, "loss": None}], ["epoch", "loss"]
    )
    assert (tmp_path / "h.csv").read_text() == "epoch,loss\n0,0.3333333\n1,\n"
