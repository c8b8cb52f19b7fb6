"""fetch: verify the study's data, prepare them once for all training nodes, and download published weights."""

from __future__ import annotations

from moonshine.config.teacher import PUBLISHED
from moonshine.errors import MoonshineError
from moonshine.files import sha256
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.graph.parameters import resolved_values
from moonshine_workflow.graph.work_progress import reporting


def run(job: stage.Job) -> None:
    from moonshine.preparation.prepare import prepare_dataset

    teacher = job.study.teacher
    if teacher.weights == PUBLISHED:
        from moonshine.structures.published_weights import published_weights

        # here, because the machines that train may have no network; students that train from scratch need none
        try:
            published_weights(teacher.name)
        except MoonshineError as error:
            stage.logger.warning("%s", error)
    with reporting(job.node) as progress:
        found = prepare_dataset(job.study.data, job.node.folder, progress)
    if job.study.ship and not found.counts["validation"]:
        stage.logger.warning(
            "ship: nothing will be exported: there is no validation split to choose on (data.validation)"
        )
    # what `moonshine status` compares, and with which description: DVC may put those of other data in its place
    job.timing["data"] = resolved_values(job.study)["data"]
    job.timing["dataset"] = sha256(job.node.folder / "dataset.json")
    counts = ", ".join(f"{count} {name}" for name, count in found.counts.items())
    stage.logger.info("%s: %s; %d classes", found.name, counts, found.num_classes)


if __name__ == "__main__":
    stage.program(run, nodes.fetch)
