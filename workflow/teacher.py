"""teacher: train the network that the students learn from, or evaluate the one that is given with its weights."""

from __future__ import annotations

import sys

from workflow import nodes, stage
from workflow.given import evaluate_node
from workflow.layouts import images_of, named, teacher_structure
from workflow.training.node import train_node
from workflow.trial import try_out


def run(job: stage.Job) -> None:
    images = images_of(job.study)
    structure = teacher_structure(job.study, images)
    named("teacher", lambda: try_out(job.study, structure, images))
    if job.study.teacher.weights:
        evaluate_node(job, structure)
    else:
        train_node(job, structure)


if __name__ == "__main__":
    sys.exit(stage.main(run, nodes.teacher, ()))
