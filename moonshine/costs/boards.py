"""Boards with microcontrollers, and how much of their memory a network may take."""

from __future__ import annotations

from dataclasses import dataclass

from moonshine.errors import MoonshineError

RESERVED_FLASH = 256_000
"""Bytes for the runtime's code and the application, beside the model."""
RESERVED_RAM = 64_000
"""Bytes for stack, camera buffer, operating system and application, beside the arena."""


@dataclass(frozen=True)
class Board:
    """Flash and on-chip RAM in bytes, which runtime, application and model share.

    An arena is one piece: of RAM in several regions, the largest that holds data counts.
    """

    name: str
    flash: int
    ram: int


_KIB, _MIB = 2**10, 2**20
# Sources: docs/small-devices.md.
BOARDS = {
    board.name: board
    for board in (
        Board("arduino-nano-33-ble", 960 * _KIB, 256 * _KIB),
        Board("esp32", 4 * _MIB, 320 * _KIB),
        Board("esp32-s3", 8 * _MIB, 416 * _KIB),
        Board("nrf5340", 1 * _MIB, 512 * _KIB),
        Board("pico", 2 * _MIB, 264 * _KIB),
        Board("pico-2", 4 * _MIB, 520 * _KIB),
        Board("stm32f411", 512 * _KIB, 128 * _KIB),
        Board("stm32f746", 1 * _MIB, 320 * _KIB),
        Board("stm32h743", 2 * _MIB, 512 * _KIB),
        Board("xg24", 1536 * _KIB, 256 * _KIB),
    )
}


def board_named(name: str) -> Board:
    """Return a board; MoonshineError lists those that are known."""
    if name not in BOARDS:
        raise MoonshineError(
            f"--board: found {name!r}; allowed: {', '.join(BOARDS)}, or --budget for another board"
        )
    return BOARDS[name]
