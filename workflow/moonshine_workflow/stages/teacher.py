"""teacher: train the teacher, or evaluate a pretrained one."""

from __future__ import annotations

import sys

from moonshine.config import Study
from moonshine.distillation.term import Pair
from moonshine.structures.build import from_structure
from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.students.layouts import Images, images_of, named, teacher_structure, uniform
from moonshine_workflow.students.trial import check_methods, try_out
from moonshine_workflow.training.given import evaluate_node
from moonshine_workflow.training.launch import on_devices
from moonshine_workflow.training.node import train_node


def run(job: stage.Job) -> None:
    images = images_of(job.study)
    structure = teacher_structure(job.study, images)
    named("teacher", lambda: try_out(job.study, structure, images))
    _check_layers(job.study, structure, images)
    if job.study.teacher.weights:
        evaluate_node(job, structure)
    else:
        on_devices(job, lambda: train_node(job, structure))


def _check_layers(study: Study, teacher: StudyStructure, images: Images) -> None:
    """Check methods that name layers before the teacher trains: the stage structure, which does too, may come later."""
    if not any(method.hints for method in study.methods.values()):
        return
    original = from_structure(teacher, study.trusted)
    for name, student in study.students.items():
        if not student.mixed and not student.rival:
            structure = uniform(study, study.network_of(name), study.block_of(name), images)
            check_methods(
                study, Pair(from_structure(structure, study.trusted), original, teacher.taps, images.shape)
            )


if __name__ == "__main__":
    sys.exit(stage.main(run, nodes.teacher))
