"""Launch of a training node as several processes with torch's own launcher."""

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
    """Call ``train`` in this process, or in one process for each device of the study, which are started for that.

    Each of these runs the node's command. Errors: ``MoonshineError`` as of `check_devices`, and where one of them dies.
    """
    training = job.study.training
    if stage.is_launched():
        end_with_parent()
    elif training.devices > 1 or training.sync_batch_norm:
        check_devices(job.study)
        if training.devices > 1:
            job.is_left_to_others = True
            return _start(job)
    train()


def check_devices(study: Study) -> None:
    """MoonshineError where ``training.devices`` is more than this machine has, or asks of CPUs what only GPUs do."""
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
            f"training.devices: found {wanted}; this machine has {there} {'GPUs' if on_gpus else 'CPU cores'}; "
            f"allowed: {allowed}"
        )


def _on_gpus(study: Study) -> bool:
    device = study.runtime.device
    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def _start(job: stage.Job) -> None:
    """Run a node as ``training.devices`` processes of this machine, on the GPUs that fewest others use.

    They end when this process does, however it ends, because each calls `end_with_parent`.
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
    # the launcher would set one thread for each process, and warn of it; every process sets its own
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
            f"one of {processes} training processes has ended with an error (above, of the first that did); "
            "whole epochs are kept: run it again to continue"
        )


def end_with_parent() -> None:
    """Ask Linux to end this process when the one that started it has ended, though it was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
