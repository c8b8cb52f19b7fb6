from __future__ import annotations

from moonshine.errors import first_few


def test_long_lists_are_shortened() -> None:
    assert first_few("abc") == "a, b, c"
    assert first_few(range(7), 5) == "0, 1, 2, 3, 4 and 2 more"
