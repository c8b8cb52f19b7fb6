"""sources: write the checksums of the user's own code, on which the stages that build networks depend.

DVC runs this every time, because the files are whatever a builder imports and dvc.yaml cannot list them. Snakemake has
the same checksums as parameters of the rules.
"""

from __future__ import annotations

import sys
from typing import Any

from moonshine.config import Study
from moonshine.errors import MoonshineError
from moonshine.files import read_json, write_json
from moonshine.networks.sources import sources
from moonshine_workflow.graph import nodes, stage


def of(study: Study) -> dict[str, Any]:
    """Checksums by module, of the teacher's model and of each student's own; empty where no code of the user's builds.

    Errors: ``MoonshineError`` for a module that is not found.
    """
    students = {name: sources(student.network or "") for name, student in study.students.items()}
    return {"sources": {"teacher": sources(study.teacher.name), "students": students}}


def are_current(study: Study) -> bool:
    """Whether the file that DVC's stages depend on is that of the code as it now is."""
    try:
        return read_json(nodes.sources(study.study).outputs[0]) == of(study)
    except MoonshineError:
        return False


def refresh(study: Study) -> None:
    """Bring the file that there is up to date. Errors: ``MoonshineError`` as of `of`."""
    path = nodes.sources(study.study).outputs[0]
    if path.exists() and not are_current(study):
        write_json(path, of(study))


def run(job: stage.Job) -> None:
    write_json(job.node.outputs[0], of(job.study))


if __name__ == "__main__":
    sys.exit(stage.main(run, nodes.sources, ()))
