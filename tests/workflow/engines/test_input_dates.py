"""Dates of inputs that have changed, as Snakemake will look at them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moonshine_workflow.engines import input_dates
from moonshine_workflow.graph import nodes


@pytest.mark.parametrize("date", [15.0, 25.0])
def test_of_a_folder_snakemake_takes_the_date_of_the_file_that_it_keeps_in_it(
    date: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hand-over dates that file, not the folder."""
    monkeypatch.chdir(tmp_path)
    node, code = nodes.export("tiny"), Path("code.py")
    (folder,) = node.outputs
    folder.mkdir(parents=True)
    stamp = folder / ".snakemake_timestamp"
    for path, made in ((code, date), (stamp, 20.0), (folder, 10.0)):
        path.touch()
        os.utime(path, (made, made))
    monkeypatch.setattr(input_dates, "_recorded", lambda _: [(node, {str(code): "sha256:of before"})])
    assert input_dates.refresh_dates([node]) == ([str(code)] if date < 20 else [])
    assert code.stat().st_mtime > stamp.stat().st_mtime
