"""measure: what a student costs, exactly; and, apart from the results, how long it takes here."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import torch
from torch import nn

from moonshine.costs import cost
from moonshine.execution import Execution, resolve
from moonshine.files import write_json
from moonshine.networks import from_structure
from workflow import nodes, stage
from workflow.structure import describe

BATCHES = (1, 32)
REPEATS = 9


def run(job: stage.Job) -> None:
    student = job.args[0]
    structure = describe(job.study, student)
    module = from_structure(structure)
    shape: tuple[int, ...] = tuple(structure["input_shape"])  # type: ignore[arg-type]
    found = cost(module, shape)
    teacher = describe(job.study, "teacher")["parameters"]
    write_json(
        job.node.outputs[0],
        {
            "parameters": found.parameters,
            "macs": found.macs,
            "ops": found.ops,
            "bytes": {"fp32": found.bytes, "bf16": found.bytes_bf16},
            "peak_activation_bytes": found.peak_activation_bytes,
            "batch": 1,
            "input_shape": list(shape),
            "compression": teacher / found.parameters,  # type: ignore[operator]
        },
    )
    execution = resolve(job.study.runtime.model_copy(update={"device": "cpu"}), "fp32")
    job.timing["latency_ms"] = {str(batch): latency(module, (batch, *shape), execution) for batch in BATCHES}


@torch.inference_mode()
def latency(module: nn.Module, shape: tuple[int, ...], execution: Execution) -> float:
    """Median wall time in milliseconds of an eager fp32 forward in eval mode, after two warm-ups."""
    module = execution.place(module).eval()
    images: Any = torch.zeros(shape).contiguous(memory_format=execution.memory_format)
    seconds = []
    for _ in range(REPEATS + 2):
        start = time.perf_counter()
        module(images)
        seconds.append(time.perf_counter() - start)
    return round(1000 * statistics.median(seconds[2:]), 3)


if __name__ == "__main__":
    sys.exit(stage.main(run, nodes.measure, ("network",)))
