"""teacher: train the teacher, from pretrained weights where there are any, or evaluate it with them."""

from __future__ import annotations

from moonshine.config import Study
from moonshine.distillation.term import Pair
from moonshine.structures.build import from_structure
from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.graph.structures import structure_of
from moonshine_workflow.students.layouts import Images, images_of, naming_key, unsearched_structure
from moonshine_workflow.students.trial import check_methods, try_out
from moonshine_workflow.training.given import evaluate_node
from moonshine_workflow.training.launch import on_devices
from moonshine_workflow.training.node import train_node


def run(job: stage.Job) -> None:
    study, structure = job.study, structure_of(job.study)
    if not stage.is_launched():
        images = images_of(study)
        naming_key("teacher", lambda: try_out(study, structure, images))
        _check_layers(study, structure, images)
    if study.teacher.is_trained:
        on_devices(job, lambda: train_node(job))
    else:
        evaluate_node(job)


def _check_layers(study: Study, teacher: StudyStructure, images: Images) -> None:
    """Check methods that name layers before the teacher trains: the stage structure, which does too, may come later."""
    if not any(term.names_layers for method in study.methods.values() for term in method.terms.values()):
        return
    original = from_structure(teacher, study.trusted)
    for name, student in study.students.items():
        if not student.mixed and not student.rival:
            structure = unsearched_structure(study, name, images)
            network = from_structure(structure, study.trusted)
            check_methods(study, Pair(network, original, teacher.taps, images.shape), name)


if __name__ == "__main__":
    stage.program(run, nodes.teacher)
