"""structure-teacher: write the teacher's structure before anything trains; all that build the teacher start from it."""

from __future__ import annotations

from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.students.layouts import images_of, teacher_structure


def run(job: stage.Job) -> None:
    structure = teacher_structure(job.study, images_of(job.study))
    structure.write(job.node.outputs[0])
    stage.logger.info("%d parameters, %d MACs", structure.parameters, structure.macs)


if __name__ == "__main__":
    stage.program(run, lambda study: nodes.structure(study))
