"""Mutual exclusion of the engines: each deletes outputs before remaking them, unaware of the other."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import IO, Any

from moonshine.errors import MoonshineError

DVC = Path(".dvc")
# DVC's lock on this folder, and its list of the paths in use.
LOCK = DVC / "tmp" / "lock"
DVC_LOCKS = DVC / "tmp" / "rwlock"
SNAKEMAKE_LOCKS = Path(".snakemake") / "locks"
# `dvc status`, editors, and `dvc repro` between two stages hold the lock only for moments.
_WAIT_SECONDS = 3.0

_held: list[IO[str]] = []


def lock_dvc_out(patience: float = _WAIT_SECONDS) -> None:
    """Hold DVC's own lock until this process ends, so that ``dvc repro`` stops before it deletes anything.

    Does nothing without a ``.dvc``. MoonshineError while DVC runs in this folder.
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
    # DVC releases the lock while a stage's command runs, and keeps only its list of paths
    try:
        require_no_stage()
    except MoonshineError:
        lock.close()
        raise
    _held.append(lock)


def remove_stale_locks() -> list[Path]:
    """Delete and return the locks that Snakemake leaves behind when it is killed or the power fails.

    A running Snakemake also holds DVC's lock, so its locks are kept, as are all locks without a ``.dvc``. One that has
    just started may lose its locks; then whichever asks second for DVC's lock stops before it deletes anything.
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


def require_no_engine() -> None:
    """MoonshineError while either engine runs in this folder."""
    require_no_stage()
    remove_stale_locks()
    if left := sorted(SNAKEMAKE_LOCKS.glob("*.lock")):
        raise MoonshineError(f"{left[0]}: Snakemake runs in this folder; wait for it, or stop it")


def require_no_stage() -> None:
    """MoonshineError while DVC runs a stage in this folder."""
    if command := running_stage():
        raise MoonshineError(f"DVC runs in this folder ({command}); wait for it, or stop it")


def running_stage() -> str:
    """Return the command of a running DVC process that uses files here, or nothing; killed ones stay listed."""
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
    """Take the lock on an open file if it is free; closing the file releases it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
