"""report: render the study's report as one HTML file from notebooks/report.ipynb."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.report.notebooks import FOLDER, render_notebook

_NOTEBOOK = FOLDER / "report.ipynb"


def render_report(
    study: str, root: Path = Path(), *, partial: bool = False, html: Path | None = None
) -> Path:
    """Render the report of a study and return its HTML file.

    ``root`` is the repository. ``partial`` renders what there is now, as ``report-partial.html``. That, and a report
    with a path of its own, ``html``, touch nothing else. Errors: ``MoonshineError``; the half-run notebook is then
    ``logs/report-failed.ipynb`` beside it.
    """
    folder = root / nodes.RESULTS / study
    notebook = None if partial or html else folder / "report.ipynb"
    html = html or folder / ("report-partial.html" if partial else "report.html")
    render_notebook(
        _NOTEBOOK,
        {"study": study, "root": str(root), "partial": partial},
        title=f"moonshine: {study}",
        html=html,
        notebook=notebook,
        failed=html.parent / "logs" / "report-failed.ipynb",
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


if __name__ == "__main__":
    stage.program(run, nodes.report)
