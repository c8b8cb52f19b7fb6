"""scratch: train a student on the labels alone, the baseline for every method."""

from __future__ import annotations

import sys

from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.training.launch import launch
from moonshine_workflow.training.node import train_node


def run(job: stage.Job) -> None:
    student, _ = job.args
    train_node(job, StudyStructure.read(nodes.structure(job.study.study, student).outputs[0]))


if __name__ == "__main__":
    sys.exit(stage.main(run, nodes.scratch, ("student", "seed"), launch=launch))
