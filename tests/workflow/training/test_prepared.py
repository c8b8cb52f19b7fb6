"""The data of a study that were lost or damaged after they were prepared."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from moonshine.config import load_study
from moonshine.data.store import Dataset
from moonshine.errors import MoonshineError
from moonshine.preparation.prepare import prepare_dataset
from moonshine_workflow.engines.handover import require_files
from moonshine_workflow.training.prepared import load_prepared
from tests.messages import naming
from tests.workflow import tiny

DATA = Path("results/tiny/data")
ARRAYS = DATA / "data.safetensors"


@pytest.fixture(autouse=True)
def _study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    prepare_dataset(load_study().data, DATA)


def contents() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in DATA.iterdir()}


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [Path.unlink, flip_a_bit, lambda path: path.write_bytes(b"")])
def test_lost_data_are_prepared_again(spoil: object, caplog: pytest.LogCaptureFixture) -> None:
    before = contents()
    spoil(ARRAYS)  # type: ignore[operator]
    with caplog.at_level(logging.WARNING):
        assert len(load_prepared(load_study()).train) == 40
    assert contents() == before
    assert "preparing them again" in caplog.text
    assert not any(Path("results/tiny/.work/fetch@tiny").glob("draft*"))


def test_nodes_that_run_at_the_same_time_prepare_them_once(caplog: pytest.LogCaptureFixture) -> None:
    ARRAYS.unlink()
    study, found = load_study(), list[Dataset]()
    nodes = [threading.Thread(target=lambda: found.append(load_prepared(study))) for _ in range(3)]
    for node in nodes:
        node.start()
    for node in nodes:
        node.join()
    assert len(found) == 3
    assert caplog.text.count("preparing them again") == 1


def test_data_that_are_others_now_replace_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ARRAYS.unlink()
    before = contents()
    changed = load_study().model_copy(
        update={"data": load_study().data.model_copy(update={"validation": 0.5})}
    )
    with pytest.raises(MoonshineError, match=naming(ARRAYS, "--forcerun fetch")):
        load_prepared(changed)
    Path("stripes.npz").unlink()
    with pytest.raises(MoonshineError, match=naming("data.path", "stripes.npz", ".npz file")):
        load_prepared(load_study())
    assert contents() == before


def test_a_hand_over_prepares_them_again() -> None:
    before = contents()
    ARRAYS.unlink()
    with pytest.raises(MoonshineError, match=naming("missing", "results/tiny/measure")):
        require_files(load_study())
    assert contents() == before


def test_a_description_that_was_edited_is_refused() -> None:
    description = DATA / "dataset.json"
    description.write_text(description.read_text().replace('"height": 8', '"height": 9'))
    with pytest.raises(MoonshineError, match="do not belong together"):
        load_prepared(load_study())
