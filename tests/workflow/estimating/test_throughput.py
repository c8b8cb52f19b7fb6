"""What was measured of a device: remembered, saved to a file, and refused where it lacks a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.workflow import tiny
from tests.workflow.estimating.fake_measurements import measured
from tests.workflow.estimating.studies import SIZE, a_study, estimate


@contextmanager
def alone() -> Iterator[Callable[[], float]]:
    yield lambda: 0.0


@contextmanager
def beside_others() -> Iterator[Callable[[], float]]:
    yield lambda: 0.4


def test_what_was_measured_in_a_busy_moment_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    told = []
    for moment in (beside_others, alone, alone):
        monkeypatch.setattr("moonshine.costs.latency.visiting", moment)
        assert estimate("--student", "G4", "--measure-on-batches", "1", "--measure-batch", "4", *SIZE) == 0
        said = capsys.readouterr().err
        told.append(("Measuring 6 kinds" in said, "not kept: it waited for 40% of its time" in said))
    assert told == [(True, True), (True, False), (False, False)]


def test_this_device_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("moonshine.costs.latency.visiting", alone)
    tiny.write_study(tmp_path)
    shown = []
    quick = ("--student", "G4", "--measure-on-batches", "1", "--measure-batch", "4")
    for _ in range(2):
        assert estimate(*quick, *SIZE, "--save", "here.json") == 0
        shown.append(capsys.readouterr())
    assert shown[0].out == shown[1].out
    assert shown[0].err.startswith("Measuring 6 kinds of step on ")
    assert shown[1].err == ""
    assert "not 4 as measured" in shown[0].out
    assert estimate("--student", "G4", "--throughput", "here.json", *SIZE) == 0
    assert capsys.readouterr().out == shown[0].out


def test_a_file_that_lacks_a_network_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    path = measured(a_study(students={"G4": {"block": "G(4)"}}), tmp_path / "there.json")
    assert estimate("--throughput", str(path), *SIZE) == 2
    said = capsys.readouterr().err
    assert "there.json: has no measurement of BG2-M scratch (wrn-10-1 with BG(2,M), ce)" in said
    assert "G4" not in said
    assert estimate("--throughput", str(path), *SIZE, "--student", "G4") == 0
