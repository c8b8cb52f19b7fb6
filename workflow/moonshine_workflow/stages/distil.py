"""distil: train a student from the pretrained teacher with the losses of a method."""

from __future__ import annotations

import sys

from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.training.launch import launch
from moonshine_workflow.training.node import train_node


def run(job: stage.Job) -> None:
    student, method, _ = job.args
    train_node(job, StudyStructure.read(nodes.structure(job.study.study, student).outputs[0]), method)


if __name__ == "__main__":
    sys.exit(stage.main(run, nodes.distil, ("student", "method", "seed"), launch=launch))
