"""File of the teacher's outputs for one epoch: one record per step, each with a checksum.

The process that creates the file appends records to it; others read them as they appear.
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
"""Seconds without a new record after which the writer of an epoch is presumed dead."""
FIRST_WAIT = 5.0
"""Seconds to wait for an epoch's first record, which then tells how long it took to compute."""
HEADER = struct.Struct("<QIId")
"""Header of a record: length of its content in bytes, CRC-32, step, seconds it took to compute."""

logger = logging.getLogger(__name__)


class EpochFile:
    """Open file of records; ``is_mine`` if this process writes it, ``is_growing`` if another one may be writing it."""

    def __init__(self, path: Path, flags: int) -> None:
        self.path = path
        self._descriptor = os.open(path, flags, 0o666)
        self.is_mine = bool(flags & os.O_CREAT)
        self.is_growing = False
        self._reserved = self._offset = self._step = 0
        self._timeout = FIRST_WAIT

    def is_complete(self, steps: int) -> bool:
        """Return whether all records are there, judging by their headers."""
        return sum(1 for _ in self._headers()) == steps

    def is_recent(self) -> bool:
        return time.time() - os.fstat(self._descriptor).st_mtime < ABANDONED

    def await_record(self, step: int) -> bytes | None:
        """Return the content of a step's record, or None if the writer does not get to it in time.

        Raises MoonshineError if the file is damaged.
        """
        deadline = time.monotonic() + self._timeout
        while (found := self._record(step)) is None and self.is_growing:
            left = deadline - time.monotonic()
            if left <= 0:
                self._timeout = 0  # the writer is slow or dead: do not wait again
                return None
            time.sleep(min(left, max(0.001, self._timeout / 50)))
        if found is None:
            raise MoonshineError("truncated")
        return found

    def _record(self, step: int) -> bytes | None:
        size = os.fstat(self._descriptor).st_size
        while header := self._header(self._offset):
            length, checksum, number, seconds = header
            start = self._offset + HEADER.size
            if number == step:
                content = os.pread(self._descriptor, length, start) if start + length <= size else b""
                if zlib.crc32(content) != checksum:
                    if self.is_growing:  # a network file system may show the header before the content
                        return None
                    raise MoonshineError("wrong checksum")
                if self._timeout:
                    self._timeout = 2 * seconds + 0.05
                return content
            if number > step or start + length > size:
                raise MoonshineError(f"found step {number} instead of {step}")
            self._offset = start + length
        return None

    def _header(self, offset: int) -> tuple[int, int, int, float] | None:
        """Return the header at an offset, None if nothing has been written there."""
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
        """Write a record, its header last; return False if it does not fit into the reserved space."""
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


def open_epoch(path: Path, steps: int, may_write: bool) -> EpochFile | None:
    """Open an epoch's file for reading, or create it if it is missing or was left incomplete.

    Returns None if there is nothing to read and ``may_write`` is false.
    """
    for _ in range(2):
        if may_write:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                return EpochFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            found = EpochFile(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if found.is_complete(steps):
            return found
        if found.is_recent():
            found.is_growing = True
            return found
        logger.warning("%s: truncated; computed again", path)
        found.remove()
    return None
