"""Mutual exclusion of the engines: each deletes outputs before remaking them and ignores the other."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import IO, Any

from moonshine.errors import MoonshineError

DVC = Path(".dvc")
# The files in which DVC notes that it works here, and on which paths.
LOCK = DVC / "tmp" / "lock"
DVC_LOCKS = DVC / "tmp" / "rwlock"
SNAKEMAKE_LOCKS = Path(".snakemake") / "locks"
# `dvc status` and editors take the lock for moments, a run between two of its stages for about as long.
_WAIT_SECONDS = 3.0

_held: list[IO[str]] = []


def lock_dvc_out(patience: float = _WAIT_SECONDS) -> None:
    """Hold DVC's own lock until this process ends, so that ``dvc repro`` stops before it deletes anything.

    Does nothing where there is no ``.dvc``. Errors: ``MoonshineError`` while DVC runs in this folder.
    """
    if not DVC.is_dir():
        return
    LOCK.parent.mkdir(exist_ok=True)
    lock = LOCK.open("a")
    deadline = time.monotonic() + patience
    while not _lock(lock):
        if time.monotonic() > deadline:
            lock.close()
            raise MoonshineError(
                f"{LOCK}: DVC, or another Snakemake, runs in this folder; wait for it, or stop it"
            )
        time.sleep(0.1)
    # DVC lets go of the lock while a stage's command runs, and keeps only its claims
    try:
        require_no_stage()
    except MoonshineError:
        lock.close()
        raise
    _held.append(lock)


def remove_stale_locks() -> list[Path]:
    """Delete the locks that Snakemake leaves when it is killed or the power fails; returns them.

    A living one holds DVC's lock too. Its own are left alone, as they are where there is no ``.dvc``. One that has only
    just started may lose them: of it and this one, the second to ask for DVC's lock stops before it deletes anything.
    """
    left = sorted(SNAKEMAKE_LOCKS.glob("*.lock")) if DVC.is_dir() else []
    if left:
        LOCK.parent.mkdir(exist_ok=True)
        with LOCK.open("a") as lock:
            if not _lock(lock):
                return []
            for path in left:
                path.unlink(missing_ok=True)
    return left


def require_no_stage() -> None:
    """Errors: ``MoonshineError`` while DVC runs a stage in this folder."""
    if command := running_stage():
        raise MoonshineError(f"DVC runs in this folder ({command}); wait for it, or stop it")


def running_stage() -> str:
    """The command of a living DVC process that claims files here, or nothing; killed ones leave their claims behind."""
    try:
        claims: dict[str, Any] = json.loads(DVC_LOCKS.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # DVC stops at a broken one
        return ""
    readers = [claim for several in claims.get("read", {}).values() for claim in several]
    for claim in [*claims.get("write", {}).values(), *readers]:
        if _lives(int(claim["pid"])):
            return str(claim["cmd"])
    return ""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _lock(file: IO[str]) -> bool:
    """Take the lock on an open file if nobody has it; closing the file gives it back."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
