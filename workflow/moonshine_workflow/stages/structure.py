"""structure: write a student's structure before anything trains; for a mixed student this is the search."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from moonshine.blocks.decay import decay_in_words
from moonshine.config import Study
from moonshine.costs.budgets import cost_increase
from moonshine.data.store import Dataset
from moonshine.distillation.term import Pair
from moonshine.errors import MoonshineError
from moonshine.progress import ReportProgress
from moonshine.structures.build import from_structure
from moonshine.structures.structure import Structure, StudyStructure
from moonshine.substitution.substitute import check_runs
from moonshine.substitution.tap_discovery import check_taps, tap_sizes
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.graph.structures import structure_of
from moonshine_workflow.graph.work_progress import reporting
from moonshine_workflow.students.compressed import compression_of
from moonshine_workflow.students.layouts import (
    Images,
    images_of,
    naming_key,
    of_study,
    unsearched_structure,
)
from moonshine_workflow.students.sizes import measured_values
from moonshine_workflow.students.trial import check_methods, try_out
from moonshine_workflow.training.prepared import load_prepared


def student_structure(
    study: Study,
    student: str,
    images: Images,
    teacher: StudyStructure,
    data: Callable[[], Dataset],
    progress: ReportProgress | None = None,
) -> StudyStructure:
    """Return the structure of a student for the study's ``images`` and ``teacher``.

    A search for it scores candidates on the ``data``, and tells ``progress`` what it does.

    Errors: ``MoonshineError`` naming the key of the study for a network that cannot be built, in which nothing can be
    replaced, that does not take the data, that is the teacher itself, or that lacks the teacher's taps.
    """
    key = f"students.{student}"
    structure = naming_key(key, lambda: _student(study, student, images, data, progress))
    same = all(getattr(structure, key) == getattr(teacher, key) for key in ("network", "kwargs", "blocks"))
    if same and not study.students[student].compression:
        raise MoonshineError(
            f"{key}: {structure.network} with {structure.block} blocks is the teacher itself; allowed: another "
            "block, or a smaller network"
        )
    taps = teacher.taps
    network, original = (from_structure(each, study.trusted) for each in (structure, teacher))
    if structure.network == teacher.network:
        naming_key(key, lambda: check_runs(network, original, images.shape))
    sizes = tap_sizes(original, taps, images.shape)
    naming_key(key, lambda: check_taps(taps, sizes, network, images.shape))
    naming_key(key, lambda: try_out(study, structure, images, student))
    check_methods(study, Pair(network, original, taps, images.shape), student)
    stage.logger.info("weight decay: %s", decay_in_words(network))
    if compress := naming_key(key, lambda: compression_of(study.students[student], network)):
        structure = structure.with_blocks({}, compress=compress)
    found = of_study(study, structure, taps, images)
    if more := cost_increase(found.model_dump(), teacher.model_dump()):
        stage.logger.warning("%s costs more than the teacher: %s", key, more)
    return found


def _student(
    study: Study,
    name: str,
    images: Images,
    data: Callable[[], Dataset],
    progress: ReportProgress | None,
) -> Structure:
    student = study.students[name]
    if student.mixed:
        from moonshine_workflow.students.mixing import mix  # loads what trains and searches

        return mix(study, student.mixed, images, data(), progress)

    def size(module: nn.Module, measure: str) -> float:
        return measured_values(module, images, None, [measure], study.runtime.threads)[measure]

    return unsearched_structure(study, name, images, size=size)


def run(job: stage.Job) -> None:
    study, student = job.study, str(job.node.student)
    with reporting(job.node) as progress:
        structure = student_structure(
            study,
            student,
            images_of(study),
            structure_of(study),
            lambda: load_prepared(study),
            progress,
        )
    structure.write(job.node.outputs[0])
    for path, reason in structure.refused.items():
        stage.logger.warning("%s stays as it is: %s", path, reason)
    stage.logger.info("%d parameters, %d MACs", structure.parameters, structure.macs)


if __name__ == "__main__":
    stage.program(run, nodes.structure)
