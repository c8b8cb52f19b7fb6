"""Common frame of all stage programs: arguments, study, log, timing, errors."""

from __future__ import annotations

import argparse
import atexit
import importlib.metadata
import inspect
import logging
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from moonshine import MoonshineError, __version__
from moonshine.config import Study
from moonshine.files import write_json
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.check import check_study
from moonshine_workflow.graph.mistakes import USAGE_ERROR
from moonshine_workflow.graph.nodes import Node
from moonshine_workflow.graph.parameters import study_of_job

CODE = ("moonshine", "workflow/moonshine_workflow")
"""The folders with the code of which a commit is told."""
LOOKED_AT = 0.2
"""Seconds for which ``moonshine status`` may at most hold a node's lock, to see whether it is held."""
logger = logging.getLogger("moonshine")


@dataclass
class Job:
    """Running node, with its study and the extra content of its timings file.

    ``is_left_to_others`` where processes that it has started leave all of that.
    """

    node: Node
    study: Study
    is_left_to_others: bool = False
    timing: dict[str, Any] = field(default_factory=dict)
    # called when everything, the timing too, is on disk
    afterwards: Callable[[], Any] = lambda: None


def main(
    run: Callable[[Job], None], make_node: Callable[..., Node], argv: Sequence[str] | None = None
) -> int:
    """Run one stage as a program; returns its exit status.

    The parameters of ``make_node`` are its options, as wildcards are called in both graphs: DVC quotes what it unpacks
    into options, and nothing else. The log goes to standard error and to the node's file, timings beside the results; a
    mistake of the user's is one message and exit status 2.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {run.__module__}", description=sys.modules[run.__module__].__doc__
    )
    for name, parameter in inspect.signature(make_node).parameters.items():
        required = parameter.default is parameter.empty
        parser.add_argument(f"--{name}", required=required, type=int if name == "seed" else str)
    node = make_node(**vars(parser.parse_args(argv)))
    started = time.time()
    _speak(parser.prog)
    try:
        if "DVC_STAGE" in os.environ:
            os.environ[nodes.PARAMS_VARIABLE] = str(nodes.resolved_file(node.study))
        study = study_of_job()
        check_node(node, study)
        _speak(node.name, *_log_file(node))
        check_study(study)
        if _computes(node, study):
            import torch  # here: its import takes longer than most of what does without it

            # Snakemake tells each job how many threads it has, DVC does not, and sums depend on it
            torch.set_num_threads(study.runtime.threads)
        job = Job(node, study)
        run(job)
        if is_helper() or job.is_left_to_others:
            return 0
        write_json(node.timings, _timings(job, started))
        job.afterwards()
    except MoonshineError as error:
        logger.error("%s", error)
        return USAGE_ERROR
    except ModuleNotFoundError:  # `moonshine report` says which extra has it
        raise
    except Exception:
        logger.exception("%s failed", node.name)
        return 1
    return 0


def program(run: Callable[[Job], None], make_node: Callable[..., Node]) -> NoReturn:
    """Run one stage as this process, and end the process as Python does, but without dismantling its modules.

    That would take as long as half of torch's import, to free memory that the system frees anyway. What Python promises
    at exit is kept: threads are joined, exit handlers run, streams are flushed.
    """
    status = main(run, make_node)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def node_lock(node: Node) -> AbstractContextManager[Any]:
    """Hold a lock on the node's work folder while it runs; ``moonshine status`` looks for it too."""
    node.work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(node.work / "lock")
    try:
        return lock.acquire(timeout=LOOKED_AT)
    except Timeout:
        raise MoonshineError(f"{node.name}: is already running in another process ({node.work})") from None


def is_at_work(work: Path) -> bool:
    """Return whether a process holds the lock on a node's work folder."""
    path = work / "lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that may only be read: nobody works in it
        return False


def check_node(node: Node, study: Study) -> None:
    """MoonshineError, with the allowed values, unless the node belongs to the study."""
    allowed = {
        "study": [study.study],
        "student": list(study.students),
        "method": list(study.methods),
        "seed": [str(seed) for seed in study.seeds],
    }
    for name, value in node.wildcards.items():
        if value not in allowed[name]:
            raise MoonshineError(f"{name}: found '{value}'; params.yaml has {', '.join(allowed[name])}")


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers may depend on, besides its configuration."""
    packages = {name: importlib.metadata.version(name) for name in ("torch", "torchvision")}
    return {"python": platform.python_version(), **packages, "moonshine-distil": __version__}


def provenance() -> dict[str, str | None]:
    """The engine that runs this process and the commit of its code, to keep in the node's timings file.

    ``-dirty`` follows a commit from which the code differs; params.yaml and results do not count. DVC names itself in
    the environment of its stages; Snakemake does not, so its Snakefile sets MOONSHINE_ENGINE.
    """
    engine = "dvc" if "DVC_STAGE" in os.environ else os.environ.get("MOONSHINE_ENGINE")
    try:
        commit = _git("rev-parse", "HEAD") + ("-dirty" if _git("status", "--porcelain", "--", *CODE) else "")
    except (OSError, subprocess.SubprocessError):
        commit = None
    return {"engine": engine, "commit": commit}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """Return the name of this machine, its processor and how many cores this process may use."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    return {"host": platform.node(), "processor": processor, "cores": len(os.sched_getaffinity(0))}


def _speak(prefix: str, *more: logging.Handler) -> None:
    """Send messages to standard error (as it is now) and to ``more``, and nowhere else."""
    logger.setLevel(logging.INFO)
    for handler in logger.handlers:
        handler.close()
    logger.handlers = [logging.StreamHandler(sys.stderr), *more]
    for handler in logger.handlers:
        handler.setFormatter(logging.Formatter(f"{prefix}: %(message)s"))


def _computes(node: Node, study: Study) -> bool:
    """Whether a node uses torch: without label maps nothing is drawn, and without ``ship`` nothing exported."""
    idle = {"examples": not study.data.is_dense, "export": study.ship is None}
    return node.computes and not idle.get(node.stage, False)


def is_launched() -> bool:
    """Whether this is one of several processes of one training."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_helper() -> bool:
    """Whether another process of the same training is the first one, which writes all files."""
    return is_launched() and os.environ["RANK"] != "0"


def _log_file(node: Node) -> list[logging.Handler]:
    """The node's log; a process that only helps to train adds its errors, of which the first ends all."""
    try:
        node.log.parent.mkdir(parents=True, exist_ok=True)
        if not is_launched():
            node.log.write_bytes(b"")
        handler = logging.FileHandler(node.log, encoding="utf-8")
        handler.setLevel(logging.ERROR if is_helper() else logging.INFO)
        return [handler]
    except OSError as error:
        raise MoonshineError(f"{node.log}: cannot be written ({error.strerror})") from None


def _timings(job: Job, started: float) -> dict[str, Any]:
    finished = time.time()
    return {
        "node": job.node.name,
        "seconds": round(finished - started, 3),
        "epoch_seconds": None,
        "started": _iso(started),
        "finished": _iso(finished),
        **machine(),
        "threads": job.study.runtime.threads,
        "device": "cpu",
        "resumed": 0,
        "versions": versions(),
        **provenance(),
        **job.timing,
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
