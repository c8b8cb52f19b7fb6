"""teacher: train the teacher, or evaluate a pretrained one."""

from __future__ import annotations

import sys

from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.students.layouts import images_of, named, teacher_structure
from moonshine_workflow.students.trial import try_out
from moonshine_workflow.training.given import evaluate_node
from moonshine_workflow.training.launch import on_devices
from moonshine_workflow.training.node import train_node


def run(job: stage.Job) -> None:
    images = images_of(job.study)
    structure = teacher_structure(job.study, images)
    named("teacher", lambda: try_out(job.study, structure, images))
    if job.study.teacher.weights:
        evaluate_node(job, structure)
    else:
        on_devices(job, lambda: train_node(job, structure))


if __name__ == "__main__":
    sys.exit(stage.main(run, nodes.teacher))
