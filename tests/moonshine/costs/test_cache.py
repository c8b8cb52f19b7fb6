"""The cache of measurements: remembered per machine and version, and harmless where it is damaged or refused."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from moonshine.costs import cache as measurements
from moonshine.costs.cache import cached


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "moonshine"


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, int]:
        self.calls += 1
        return {"calls": self.calls}


def test_a_measurement_is_made_once() -> None:
    measure = Counter()
    assert [cached({"what": "x"}, measure) for _ in range(3)] == [{"calls": 1}] * 3


def test_what_is_not_worth_keeping_is_measured_again() -> None:
    measure = Counter()
    for calls in (1, 2, 3):
        found = cached({"what": "x"}, measure, worth_keeping=lambda found: found["calls"] == 3)
        assert found == {"calls": calls}
    assert cached({"what": "x"}, measure) == {"calls": 3}
    assert cached({"what": "x"}, measure, again=True) == {"calls": 4}
    assert cached({"what": "x"}, measure) == {"calls": 4}


def test_another_question_is_another_measurement() -> None:
    measure = Counter()
    assert cached({"what": "x"}, measure) != cached({"what": "y"}, measure)


def test_another_version_measures_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Counter()
    cached({"what": "x"}, measure)
    monkeypatch.setattr(measurements, "__version__", "other")
    assert cached({"what": "x"}, measure) == {"calls": 2}


@pytest.mark.parametrize("package", ["torch", "onnx", "onnxruntime", "onnxscript"])
def test_another_version_of_what_writes_files_measures_again(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, installed = Counter(), metadata.version
    cached({"what": "x"}, measure)
    monkeypatch.setattr(metadata, "version", lambda name: "0.0.1" if name == package else installed(name))
    assert cached({"what": "x"}, measure) == {"calls": 2}


def test_a_damaged_cache_is_as_good_as_none(cache: Path) -> None:
    measure = Counter()
    cached({"what": "x"}, measure)
    for path in cache.iterdir():
        path.write_text("{")
    assert cached({"what": "x"}, measure) == {"calls": 2}
    assert cached({"what": "x"}, measure) == {"calls": 2}


def test_a_cache_that_cannot_be_written_is_done_without(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert cached({"what": "x"}, Counter()) == {"calls": 1}
