"""export: write the chosen student as verified files with receipts, or say why nothing ships."""

from __future__ import annotations

import shutil

from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.graph.work_progress import reporting
from moonshine_workflow.tables.choice import ShippingChoice
from moonshine_workflow.tables.shipped import FILE, Shipped


def run(job: stage.Job) -> None:
    choice = ShippingChoice.read(nodes.collect(job.study.study).root / "choice.json")
    folder = job.node.outputs[0]
    if choice.status != "ranked":
        shutil.rmtree(folder, ignore_errors=True)
        Shipped(status=choice.status).write(folder / FILE)
        stage.logger.info("nothing to export: %s", choice.status)
        return
    from moonshine_workflow.stages.shipping import ship

    with reporting(job.node) as progress:
        job.timing["receipts"] = ship(job.study, choice, folder, progress)
    names = ", ".join(sorted(path.name for path in folder.iterdir()))
    stage.logger.info("%s: %s", folder, names)


if __name__ == "__main__":
    stage.program(run, nodes.export)
