"""Options that several ``moonshine`` commands have."""

from __future__ import annotations

from moonshine.errors import MoonshineError


def parse_input(text: str) -> tuple[int, int, int]:
    """Return (channels, height, width) of an ``--input`` such as 3x32x32; MoonshineError for anything else."""
    sizes = text.split("x")
    if len(sizes) == 3 and all(size.isdecimal() and int(size) > 0 for size in sizes):
        channels, height, width = map(int, sizes)
        return channels, height, width
    raise MoonshineError(f"--input is {text!r}; allowed: channels x height x width, such as 3x32x32")
