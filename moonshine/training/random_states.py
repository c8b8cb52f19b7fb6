"""States of random numbers in a checkpoint: taken from every process, given back to each."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from moonshine.training.processes import Processes

logger = logging.getLogger(__name__)

States = dict[str, Tensor]
"""By ``cpu`` and, where the device is one, ``cuda``."""


def states(device: torch.device) -> States:
    """The states of this process's random numbers."""
    on_gpu = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **on_gpu}


def restore(
    found: Sequence[States], device: torch.device, seed: int, processes: Processes, epoch: int
) -> None:
    """Continue this process's states, ``found`` by rank; begin new ones after another number of processes."""
    if len(found) != processes.count:
        logger.warning(
            "continued with %d processes what %d began: sound, but not bit for bit what either would have given",
            processes.count,
            len(found),
        )
        torch.manual_seed(hash((seed, processes.rank, epoch)) & (2**63 - 1))
        return
    state = found[processes.rank]
    torch.set_rng_state(state["cpu"].cpu())
    if (device.type == "cuda") != ("cuda" in state):
        logger.warning(
            "continued on a %s what another kind of device began: not bit for bit the same", device.type
        )
    elif device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
