"""Printed tables: aligned, and the same however narrow the terminal is."""

from __future__ import annotations

import pytest

from moonshine.text_table import text_table


def test_columns_are_aligned_and_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    rows = [["G(4)", "1.50", "1,234"], ["a student with a long name" * 5, "10.00", ""]]
    lines = text_table(["block", "MB", "images"], rows).splitlines()
    assert lines[1:] == [
        f"{'G(4)':<130}   1.50   1,234",
        f"{'a student with a long name' * 5}  10.00",
    ]
    assert lines[0] == f"{'block':<130}     MB  images"
