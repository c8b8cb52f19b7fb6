"""A training node as several processes, which torch's own launcher starts and watches."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import torch

from moonshine.config import Study
from moonshine.errors import MoonshineError


def check_devices(study: Study) -> None:
    """MoonshineError where ``training.devices`` is more than this machine has, or asks of CPUs what only GPUs do."""
    wanted = study.training.devices
    device = study.runtime.device
    gpus = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if study.training.sync_batch_norm and not gpus:
        raise MoonshineError(
            "training.sync_batch_norm: found true on a CPU, where torch has no synchronised batch norm; allowed: false"
        )
    if ":" in device and wanted > 1:
        raise MoonshineError(
            f"runtime.device: found {device}, one device, for training.devices: {wanted}; allowed: auto, cpu, cuda"
        )
    there = torch.cuda.device_count() if gpus else len(os.sched_getaffinity(0))
    if wanted > there:
        raise MoonshineError(
            f"training.devices: found {wanted}; this machine has {there} {'GPUs' if gpus else 'CPU cores'}; "
            f"allowed: 1 to {there} that divide training.batch_size"
        )


def train_together(module: str, arguments: Sequence[str], processes: int) -> None:
    """Run a stage's module as so many processes of this machine; MoonshineError where one of them dies."""
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
    ended = subprocess.run([*command, "-m", module, *arguments], env=environment, check=False)
    if ended.returncode:
        raise MoonshineError(
            f"one of {processes} training processes has ended with an error (above, of the first that did); "
            "whole epochs are kept: run it again to continue"
        )
