"""File of the teacher's outputs in one epoch: a record per step, each with its checksum.

The process that creates the file appends to it, others read records as they appear.
"""

from __future__ import annotations

import logging
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from moonshine.errors import MoonshineError

ABANDONED = 60.0
"""Seconds without a new record after which the node that writes an epoch counts as gone."""
FIRST_WAIT = 5.0
"""Seconds to wait for the first record of an epoch, from which on it is known how long computing one takes."""
HEADER = struct.Struct("<QIId")
"""Of a record: bytes of what follows, its checksum, its step, and the seconds that computing it took."""

logger = logging.getLogger(__name__)


class EpochFile:
    """An open file of records; ``is_mine`` where this process writes it, ``is_growing`` where another one may."""

    def __init__(self, path: Path, flags: int) -> None:
        self.path = path
        self._descriptor = os.open(path, flags, 0o666)
        self.is_mine = bool(flags & os.O_CREAT)
        self.is_growing = False
        self._reserved = self._offset = self._step = 0
        self._patience = FIRST_WAIT

    def is_whole(self, steps: int) -> bool:
        """Whether all records are there, by their headers."""
        return sum(1 for _ in self._headers()) == steps

    def is_recent(self) -> bool:
        return time.time() - os.fstat(self._descriptor).st_mtime < ABANDONED

    def await_record(self, step: int) -> bytes | None:
        """The content of a step's record, None where the process that writes does not come to it in time.

        MoonshineError where it is damaged.
        """
        deadline = time.monotonic() + self._patience
        while (found := self._record(step)) is None and self.is_growing:
            left = deadline - time.monotonic()
            if left <= 0:
                self._patience = 0  # it is slow, or gone
                return None
            time.sleep(min(left, max(0.001, self._patience / 50)))
        if found is None:
            raise MoonshineError("cut short")
        return found

    def _record(self, step: int) -> bytes | None:
        size = os.fstat(self._descriptor).st_size
        while header := self._header(self._offset):
            length, checksum, number, seconds = header
            start = self._offset + HEADER.size
            if number == step:
                content = os.pread(self._descriptor, length, start) if start + length <= size else b""
                if zlib.crc32(content) != checksum:
                    if self.is_growing:  # on a network file system parts of it may be seen before others
                        return None
                    raise MoonshineError("wrong checksum")
                if self._patience:
                    self._patience = 2 * seconds + 0.05
                return content
            if number > step or start + length > size:
                raise MoonshineError(f"found step {number} where {step} is due")
            self._offset = start + length
        return None

    def _header(self, offset: int) -> tuple[int, int, int, float] | None:
        """The header at a place, None where nothing is written yet."""
        found = os.pread(self._descriptor, HEADER.size, offset)
        if len(found) < HEADER.size or not any(found):
            return None
        return HEADER.unpack(found)

    def _headers(self) -> Iterator[tuple[int, int, int, float]]:
        offset, size = 0, os.fstat(self._descriptor).st_size
        while header := self._header(offset):
            offset += HEADER.size + header[0]
            if offset > size:
                return
            yield header

    def reserve(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self._reserved = size

    def append(self, step: int, content: bytes, seconds: float) -> bool:
        """Write a record, its header last; False where it is more than was reserved."""
        end = self._offset + HEADER.size + len(content)
        if end > self._reserved or step != self._step:
            return False
        self._write(content, self._offset + HEADER.size)
        self._write(HEADER.pack(len(content), zlib.crc32(content), step, seconds), self._offset)
        self._offset, self._step = end, step + 1
        return True

    def _write(self, content: bytes, offset: int) -> None:
        rest = memoryview(content)
        while rest:
            done = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[done:], offset + done

    def finish(self) -> None:
        os.ftruncate(self._descriptor, self._offset)

    def close(self) -> None:
        os.close(self._descriptor)

    def remove(self) -> None:
        self.close()
        with suppress(OSError):
            self.path.unlink()


def opened(path: Path, steps: int, may_write: bool) -> EpochFile | None:
    """The file of an epoch: to write where there is none, or one that was cut short; else to read."""
    for _ in range(2):
        if may_write:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                return EpochFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            found = EpochFile(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if found.is_whole(steps):
            return found
        if found.is_recent():
            found.is_growing = True
            return found
        logger.warning("%s: cut short; computed again", path)
        found.remove()
    return None
