"""distil: train a student from the pretrained teacher with the losses of a method."""

from __future__ import annotations

from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.training.launch import on_devices
from moonshine_workflow.training.node import train_node


def run(job: stage.Job) -> None:
    on_devices(job, lambda: train_node(job))


if __name__ == "__main__":
    stage.program(run, nodes.distil)
