"""Launch of a node that trains in several processes, with torch's own launcher."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

import torch

from moonshine.config import Study
from moonshine.errors import MoonshineError
from moonshine_workflow.graph import stage
from moonshine_workflow.training import gpus

# prctl(2)
_PR_SET_PDEATHSIG = 1


def on_devices(job: stage.Job, train: Callable[[], object]) -> None:
    """Call ``train`` in this process, or launch one process per device of the study, each running the node's command.

    Raises MoonshineError as `check_devices` does, and if one of the processes fails.
    """
    training = job.study.training
    if stage.is_launched():
        end_with_parent()
    elif training.devices > 1 or training.sync_batch_norm:
        check_devices(job.study)
        if training.devices > 1:
            job.is_left_to_others = True
            return _launch(job)
    train()


def check_devices(study: Study) -> None:
    """Raise MoonshineError if ``training.devices`` exceeds this machine's, or if CPUs cannot do what the study asks."""
    wanted = study.training.devices
    device = study.runtime.device
    on_gpus = _on_gpus(study)
    if study.training.sync_batch_norm and not on_gpus:
        raise MoonshineError(
            "training.sync_batch_norm: found true on a CPU, where torch has no synchronised batch norm; allowed: false"
        )
    if ":" in device and wanted > 1:
        raise MoonshineError(
            f"runtime.device: found {device}, one device, for training.devices: {wanted}; allowed: auto, cpu, cuda"
        )
    there = torch.cuda.device_count() if on_gpus else len(os.sched_getaffinity(0))
    if wanted > there:
        allowed = f"1 to {there} that divide training.batch_size" if there else "runtime.device: cpu"
        raise MoonshineError(
            f"training.devices: found {wanted}, but this machine has {there} {'GPUs' if on_gpus else 'CPU cores'}; "
            f"allowed: {allowed}"
        )


def _on_gpus(study: Study) -> bool:
    device = study.runtime.device
    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def _launch(job: stage.Job) -> None:
    """Run a node as ``training.devices`` processes on this machine, on the GPUs with the fewest claims.

    They end when this process does, even if it is killed, because each calls `end_with_parent`.
    """
    study = job.study
    processes = study.training.devices
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    # without it, the launcher sets it to 1 with a warning; every process sets its own number of threads
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    with ExitStack() as held:
        if _on_gpus(study):
            names = gpus.visible()
            chosen = held.enter_context(gpus.claimed(names, processes))
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(names[index] for index in chosen)
        ended = subprocess.run(
            [*command, *job.node.command], env=environment, check=False, preexec_fn=end_with_parent
        )
    if ended.returncode:
        raise MoonshineError(
            f"one of {processes} training processes failed (the first error is above); finished epochs are kept: run "
            "the node again to continue"
        )


def end_with_parent() -> None:
    """Ask Linux to terminate this process when its parent ends, even if the parent is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
