"""scratch: train a student on the labels alone, the baseline for every method."""

from __future__ import annotations

import sys

from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.training.launch import on_devices
from moonshine_workflow.training.node import train_node


def run(job: stage.Job) -> None:
    structure = StudyStructure.read(nodes.structure(job.study.study, str(job.node.student)).outputs[0])
    on_devices(job, lambda: train_node(job, structure))


if __name__ == "__main__":
    sys.exit(stage.main(run, nodes.scratch))
