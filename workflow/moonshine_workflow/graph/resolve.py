"""resolve: write the parameters of all nodes for DVC, which compares what a file says and not what it means.

DVC runs this every time: the user's own code is part of it, whose files dvc.yaml cannot list. Snakemake has the same
parameters without a file.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from moonshine.config import Study, load_study
from moonshine.errors import MoonshineError
from moonshine.files import read_json, write_json
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.check import check_study
from moonshine_workflow.graph.mistakes import reports_mistakes
from moonshine_workflow.graph.parameters import parameters


def refresh(study: Study) -> None:
    """Bring the study's file up to date. Errors: ``MoonshineError`` as of `parameters`."""
    path, now = nodes.resolved_file(study.study), parameters(study)
    with suppress(MoonshineError):
        if read_json(path) == now:
            return
    write_json(path, now, sort_keys=False)


@reports_mistakes
def main() -> int:
    """DVC's second stage."""
    study = load_study()
    check_study(study)
    write_json(nodes.resolved_file(study.study), parameters(study), sort_keys=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
