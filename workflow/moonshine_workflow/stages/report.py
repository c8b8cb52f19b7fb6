"""report: render the study's report as one HTML file from notebooks/report.ipynb."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from moonshine.errors import MoonshineError
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.report.notebooks import FOLDER, render_notebook

_NOTEBOOK = FOLDER / "report.ipynb"


def render_report(study: str, root: Path = Path(), *, partial: bool = False) -> Path:
    """Render the report of a study and return its HTML file.

    ``root`` is the repository. ``partial`` renders what there is now, as ``report-partial.html``, and touches
    nothing else. Errors: ``MoonshineError``; the half-run notebook is then ``logs/report-failed.ipynb`` of
    the study.
    """
    folder = root / nodes.RESULTS / study
    html = folder / ("report-partial.html" if partial else "report.html")
    render_notebook(
        _NOTEBOOK,
        {"study": study, "root": str(root), "partial": partial},
        title=f"moonshine: {study}",
        html=html,
        notebook=None if partial else folder / "report.ipynb",
        failed=folder / "logs" / "report-failed.ipynb",
    )
    return html


@contextmanager
def tracked(study: str) -> Iterator[None]:
    """Log the study's missing runs to MLflow meanwhile: what trained briefly, was restored, or met a dead server.

    A process of its own beside the notebook: each takes seconds to start. It warns when the store does not answer.
    """
    process = subprocess.Popen([sys.executable, "-m", "moonshine_workflow.tracking.back_fill", study])
    try:
        yield
    finally:
        if process.wait() != 0:
            stage.logger.warning("not every run is in MLflow; `moonshine track` logs the rest")


def run(job: stage.Job) -> None:
    with tracked(job.study.study):
        html = render_report(job.study.study)
    stage.logger.info("wrote %s", html)


def main(argv: Sequence[str]) -> int:
    """``moonshine report``: without ``--partial`` it is the stage, which needs all that the report shows."""
    if not {"--partial", "--help", "-h"} & set(argv):
        return stage.main(run, nodes.report, argv)
    parser = argparse.ArgumentParser(
        prog="moonshine report", description="Render the report of the study in params.yaml as HTML."
    )
    parser.add_argument("--study", required=True, help=argparse.SUPPRESS)
    parser.add_argument(
        "--partial", action="store_true", help="render what is finished, as report-partial.html"
    )
    try:
        print(render_report(parser.parse_args(argv).study, partial=True))
    except MoonshineError as error:
        print(f"error: {error}", file=sys.stderr)
        return stage.USAGE_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
