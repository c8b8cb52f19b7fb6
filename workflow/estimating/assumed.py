"""How fast a device would be that nobody has measured: from operations, and a rate that somebody names."""

from __future__ import annotations

from collections.abc import Mapping

from moonshine.config import Study
from moonshine.costs.cost import cost
from moonshine.networks.build import from_structure
from workflow.estimating.arithmetic import Kind
from workflow.estimating.throughput import Measured, Throughput
from workflow.estimating.works import EVALUATION, Case, Cases
from workflow.layouts import Structure

BACKWARD = 2
"""Forward passes that a backward pass takes as long as: gradients of the activations, and of the weights."""

Shape = tuple[int, int, int]


def assume(study: Study, wanted: Mapping[Kind, Cases], tflops: float) -> Throughput:
    """What a device does that sustains ``tflops`` x 10^12 operations a second in convolutions and linear layers."""
    macs: dict[tuple[str, Shape], int] = {}
    distinct = {case.work: case for both in wanted.values() for case in both}
    return Throughput(
        device="a device that nobody has measured",
        dtype="any",
        threads=1,
        channels_last=True,
        compile=False,
        torch="any",
        batches=1,
        batch_size=study.training.batch_size,
        measurements=[
            Measured(
                work=work, seconds_per_image=operations(study, case, macs) / (tflops * 1e12), peak_bytes=None
            )
            for work, case in distinct.items()
        ],
        tflops=tflops,
    )


def operations(study: Study, case: Case, macs: dict[tuple[str, Shape], int]) -> int:
    """The operations of one image, two to a multiply-accumulate; ``macs`` remembers those of networks.

    Training is a forward and a backward pass of the network, and a forward pass of the teacher where there is one.
    """
    shape = case.work.input_shape

    def forward(key: str, structure: Structure) -> int:
        if (key, shape) not in macs:
            macs[key, shape] = cost(from_structure(structure, study.trusted), shape).macs
        return 2 * macs[key, shape]

    own = forward(case.work.structure, case.structure)
    if case.work.loss == EVALUATION:
        return own
    teacher = forward(case.work.teacher, case.teacher) if case.teacher and case.work.teacher else 0
    return (1 + BACKWARD) * own + teacher
