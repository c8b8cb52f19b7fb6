"""Random number generator states in a checkpoint: collected from all processes, restored to each."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from moonshine.training.processes import Processes

logger = logging.getLogger(__name__)

States = dict[str, Tensor]
"""Generator states by device type: ``cpu`` and, when training on a GPU, ``cuda``."""


def states(device: torch.device) -> States:
    """Return the generator states of this process."""
    on_gpu = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **on_gpu}


def restore_states(
    found: Sequence[States], device: torch.device, seed: int, processes: Processes, epoch: int
) -> None:
    """Restore this process's state from ``found``, by rank; seed anew if the number of processes has changed."""
    if len(found) != processes.count:
        logger.warning(
            "resumed with %d processes after %d: valid, but not bit for bit the result of either number",
            processes.count,
            len(found),
        )
        torch.manual_seed(hash((seed, processes.rank, epoch)) & (2**63 - 1))
        return
    state = found[processes.rank]
    torch.set_rng_state(state["cpu"].cpu())
    if (device.type == "cuda") != ("cuda" in state):
        logger.warning(
            "resumed on %s after another type of device: not bit for bit the same result", device.type
        )
    elif device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
