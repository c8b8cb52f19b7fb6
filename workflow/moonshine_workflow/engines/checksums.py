"""Checksums of files, cached between runs, and the check of a study's prepared data."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from moonshine.data.description import Description
from moonshine.errors import MoonshineError
from moonshine.files import sha256, write_bytes
from moonshine_workflow.graph import nodes

_CACHE = Path(".snakemake") / "moonshine-sha256.json"


class Checksums:
    """SHA-256 of files by path; a file is read again only if its inode, size or dates differ.

    No program can set the date of an inode's last change.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[object]] = {}
        with suppress(OSError, ValueError, TypeError):
            self._known = dict(json.loads(_CACHE.read_bytes()))
        self._stored = dict(self._known)
        self._seen: set[str] = set()

    def of(self, path: str) -> str | None:
        """Return the checksum of a file, None if it is missing or unreadable."""
        if path not in self._seen:
            try:
                found = os.stat(path)
                state = [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
                then = self._known.get(path)
                if not then or then[0] != state:
                    self._known[path] = [state, sha256(Path(path))]
            except OSError:
                return None
            self._seen.add(path)
        return str(self._known[path][1])

    def forget(self, path: str) -> None:
        self._known.pop(path, None)
        self._seen.discard(path)

    def keep(self) -> None:
        """Store them for the next run; a failure costs only time."""
        if self._known != self._stored:
            with suppress(MoonshineError):
                write_bytes(_CACHE, json.dumps(self._known).encode())


def lost_data(study: str) -> str | None:
    """Return a sentence on what is wrong with the data.safetensors that dataset.json describes; None if nothing is.

    Neither engine should rerun ``fetch`` and what follows: `moonshine_workflow.training.prepared` restores the data.
    """
    path, description = nodes.fetch(study).outputs
    try:
        wanted = Description.read(description).sha256[path.name]
    except (MoonshineError, KeyError):
        return None  # not prepared yet
    checksums = Checksums()
    found = checksums.of(path.as_posix())
    checksums.keep()
    if found == wanted:
        return None
    state = f"has the checksum {found}, {description.name} says {wanted}" if found else "is missing"
    return f"{path} {state}; the next node that reads it prepares it again"
