"""Data-parallel training of one network, one process per device, with torch's DistributedDataParallel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from moonshine.errors import MoonshineError
from moonshine.training.execution import Execution

_TIMEOUT = timedelta(hours=2)
"""How long processes wait for each other, as they do while the first one evaluates the validation split."""
TORCH_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Processes:
    """Position among the processes that train together, one by default. Only the first one writes files."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def shard(self) -> tuple[int, int]:
        """Return the part of every batch that this process computes, as `moonshine.data.batches` expects it."""
        return self.rank, self.count

    def wrap(self, network: nn.Module, execution: Execution, is_static: bool = True) -> nn.Module:
        """Wrap a module so that its backward pass averages gradients; a single process gets the module itself.

        The modules inside stay the same objects, so hooks on them see every forward pass. Running statistics of batch
        norm are the first process's. Parameters without a gradient are found in the first step, or in every step unless
        ``is_static``.
        """
        if self.count == 1:
            return network
        devices = [execution.device] if execution.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            network, device_ids=devices, static_graph=is_static, find_unused_parameters=not is_static
        )

    def share(self, mine: int, batch: int) -> float:
        """Return the weight, in the average over processes, of a mean over ``mine`` of a batch's images."""
        return mine * self.count / batch

    def all_reduce(self, value: Tensor) -> Tensor:
        """All-reduce: return the sum of a tensor over all processes."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def broadcast(self, found: Any) -> Any:
        """Broadcast: return the first process's value."""
        if self.count == 1:
            return found
        box = [found]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def all_gather(self, own: Any) -> list[Any]:
        """All-gather: return every process's value, by rank."""
        if self.count == 1:
            return [own]
        box: list[Any] = [None] * self.count
        dist.all_gather_object(box, own)
        return box


SINGLE_PROCESS = Processes()


def synchronised(network: nn.Module) -> None:
    """Synchronise batch norms over processes, in place; do this before adding hooks. Parameters keep their names.

    Raises MoonshineError for a subclass of batch norm, whose own forward pass would be lost, such as timm's with an
    activation.
    """
    for path, layer in network.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and type(layer) not in TORCH_BATCH_NORMS:
            raise MoonshineError(
                f"training.sync_batch_norm: {path} is a {type(layer).__name__}; allowed: networks with torch's own "
                "batch norms, or false"
            )
    nn.SyncBatchNorm.convert_sync_batchnorm(network)


def launched(environment: Mapping[str, str] = os.environ) -> Processes:
    """Return this process's position among those that ``torchrun`` launched; a single process otherwise."""
    if "TORCHELASTIC_RUN_ID" not in environment:
        return SINGLE_PROCESS
    return Processes(int(environment["RANK"]), int(environment["WORLD_SIZE"]))


@contextmanager
def together(processes: Processes, device: torch.device) -> Iterator[None]:
    """Connect the processes while the context lasts: NCCL between GPUs, gloo between CPUs."""
    if processes.count == 1:
        yield
        return
    on_gpu = device.type == "cuda"
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", timeout=_TIMEOUT, device_id=device if on_gpu else None
    )
    yield
    # Not after an error: NCCL would wait here for processes that wait for this one, and the launcher for them all.
    dist.destroy_process_group()
