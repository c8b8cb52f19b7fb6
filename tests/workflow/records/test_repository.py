"""The records in this repository can be read, and tell of no machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from moonshine_workflow.records.checks import require_anonymous
from moonshine_workflow.records.record import FILE, RECORDS, read_record

REPOSITORY = Path(__file__).parents[3]
FOLDERS = sorted(path.parent for path in (REPOSITORY / RECORDS).glob(f"*/{FILE}"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_record_is_whole_and_anonymous(folder: Path) -> None:
    record = read_record(folder)
    assert record.settings.study == folder.name
    require_anonymous(folder / FILE, record)
    assert {path.stem for path in (folder / "weights").glob("*")} == set(record.kept)


def test_records_are_small() -> None:
    files = [path for path in (REPOSITORY / RECORDS).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6
