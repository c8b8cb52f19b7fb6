"""Prepared data that were lost or damaged are told before a node reads them, at no cost where they were not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from moonshine.config import load_study
from moonshine.data.description import Description
from moonshine.files import sha256
from moonshine_workflow.engines import checksums
from moonshine_workflow.engines.status import survey
from moonshine_workflow.graph import nodes
from tests.workflow import tiny


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The prepared data of a study, of which nothing else is there."""
    monkeypatch.chdir(tmp_path)
    tiny.write_study(tmp_path)
    data, description = nodes.fetch("tiny").outputs
    data.parent.mkdir(parents=True)
    data.write_bytes(b"images")
    Description(
        name="tiny",
        counts={},
        channels=1,
        height=8,
        width=8,
        num_classes=2,
        class_names=("a", "b"),
        mean=(0.5,),
        std=(0.5,),
        source="tiny",
        sha256={data.name: sha256(data)},
    ).write(description)
    return data


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (Path.unlink, "is missing"),
        (lambda path: path.write_bytes(b"imaget"), "has the checksum"),
    ],
)
def test_lost_data_are_told(spoil: Callable[[Path], object], found: str, data: Path) -> None:
    assert checksums.lost_data("tiny") is None
    spoil(data)
    lost = checksums.lost_data("tiny")
    assert lost is not None
    assert lost.startswith(str(data))
    assert found in lost
    (fetch,) = (one for one in survey(load_study()) if one.node.stage == "fetch")
    assert (fetch.state, fetch.detail) == ("done", lost)


def test_a_file_that_did_not_change_is_not_read_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checksums.lost_data("tiny") is None
    monkeypatch.setattr(checksums, "sha256", lambda _: pytest.fail("read again"))
    assert checksums.lost_data("tiny") is None


def test_without_a_description_nothing_is_lost(data: Path) -> None:
    (data.parent / "dataset.json").unlink()
    data.unlink()
    assert checksums.lost_data("tiny") is None
