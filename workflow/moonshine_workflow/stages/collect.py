"""collect: write the tables of a study from all of its nodes."""

from __future__ import annotations

from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.tables.collect import check_configurations, collect, write_tables


def run(job: stage.Job) -> None:
    check_configurations(job.study)
    files = collect(job.study)
    write_tables(files, job.node.root)
    stage.logger.info(
        "%d tables of %d runs",
        sum(name.startswith("tables/") for name in files),
        files["tables/runs.csv"].count("\n") - 1,
    )


if __name__ == "__main__":
    stage.program(run, nodes.collect)
