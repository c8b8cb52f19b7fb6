"""Placement of a node's network: the CPU, or the GPU with the fewest other nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from moonshine.config import Study
from moonshine.training.execution import Execution, resolve
from moonshine.training.processes import SINGLE_PROCESS, Processes
from moonshine_workflow.training import gpus


@contextmanager
def execution_here(
    study: Study, processes: Processes = SINGLE_PROCESS, precision: str | None = None
) -> Iterator[Execution]:
    """Yield how a study's networks run here; if a GPU has to be chosen, it is claimed while the context lasts.

    Each of several ``processes`` has the GPU of its rank among those that the launcher left visible.
    """
    runtime, precision = study.runtime, precision or study.training.precision
    if processes.count > 1:
        yield resolve(runtime, precision, processes.rank)
        return
    named = runtime.device.partition(":")[2]
    if runtime.device != "cpu" and torch.cuda.device_count() > int(named or 1):
        with gpus.claimed(gpus.visible(), 1, [int(named)] if named else None) as (index,):
            yield resolve(runtime, precision, index)
    else:
        yield resolve(runtime, precision)
