"""Checkpoints of a training run: one per epoch, the last two kept, each verified before it is used."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from moonshine.errors import MoonshineError
from moonshine.files import read_json, unreadable, write_bytes, write_json

logger = logging.getLogger(__name__)
VERSION = 1
"""Raised with every change of a checkpoint's content or of the names in it; version 0 was not recorded."""
KEPT_CHECKPOINTS = 2
NAME = re.compile(r"epoch-([0-9]{5,})\.(pt|json)")


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints of one run, in ``folder``; ``fingerprint`` identifies what is trained."""

    folder: Path
    fingerprint: str

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Save ``state`` as of the end of ``epoch`` (0-based)."""
        content = io.BytesIO()
        torch.save(state, content)
        data = content.getvalue()
        write_bytes(self._path(epoch), data)
        # the receipt comes last: a checkpoint without one is incomplete
        write_json(
            self._path(epoch).with_suffix(".json"),
            {
                "version": VERSION,
                "sha256": hashlib.sha256(data).hexdigest(),
                "fingerprint": self.fingerprint,
            },
        )
        for old in self._epochs()[KEPT_CHECKPOINTS:]:
            self._path(old).with_suffix(".json").unlink(missing_ok=True)
            self._path(old).unlink(missing_ok=True)

    def load(self, device: torch.device) -> tuple[int, dict[str, Any]] | None:
        """Return the newest intact checkpoint of this run as (epoch, state), with a warning for each that is skipped.

        Raises MoonshineError for a checkpoint of another `VERSION`, which is left in place.
        """
        for epoch in self._epochs():
            path = self._path(epoch)
            try:
                return epoch, self._read(path, device)
            except _OtherVersionError:
                raise
            except MoonshineError as error:
                logger.warning(
                    "%s; falling back to the checkpoint before it, or to the start if there is none", error
                )
        return None

    def clear(self) -> None:
        """Remove every checkpoint: the run's results are written."""
        for path in self.folder.glob("epoch-*.*"):
            if NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _read(self, path: Path, device: torch.device) -> dict[str, Any]:
        receipt = read_json(path.with_suffix(".json"))
        if (version := receipt.get("version", 0)) != VERSION:
            raise _OtherVersionError(
                f"{path}: found a checkpoint of version {version}; allowed: {VERSION}. It is kept: finish the run with "
                f"the version of moonshine that started it, or remove {self.folder} to train from the start"
            )
        if receipt.get("fingerprint") != self.fingerprint:
            raise MoonshineError(f"{path}: belongs to other settings, data or versions")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise unreadable(path, error) from None
        if hashlib.sha256(data).hexdigest() != receipt.get("sha256"):
            raise MoonshineError(f"{path}: corrupt (its checksum does not match)")
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
        return state

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.pt"

    def _epochs(self) -> list[int]:
        """Epochs with a checkpoint, newest first; other files in the folder are ignored."""
        names = (NAME.fullmatch(path.name) for path in self.folder.glob("epoch-*.pt"))
        return sorted((int(name[1]) for name in names if name), reverse=True)


class _OtherVersionError(MoonshineError):
    """Checkpoint that this code can neither resume nor may overwrite."""


def fingerprint(*parts: Any) -> str:
    """Return a digest of JSON-serialisable settings; runs that differ in any of them never share a checkpoint."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
