"""``moonshine report``: the report of a study, of what is finished of it, or of a record."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from moonshine.errors import MoonshineError
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.records.unpack import unpack
from moonshine_workflow.stages.report import render_report, run


def render_record(folder: Path) -> Path:
    """Render the report of a record, from its files alone, and return its HTML file below ``results``.

    Errors: ``MoonshineError`` as for `moonshine_workflow.records.record.read_record` and `render_report`.
    """
    with TemporaryDirectory(prefix="moonshine-record-") as root:
        record = unpack(folder, Path(root))
        study = record.settings.study
        html = nodes.RESULTS / study / "report-records.html"
        return render_report(study, Path(root), partial=not record.finished, html=html)


def main(argv: Sequence[str]) -> int:
    """Without an option of its own it is the stage, which needs all that the report shows."""
    parser = argparse.ArgumentParser(
        prog="moonshine report", description="Render the report of the study in params.yaml as HTML."
    )
    parser.add_argument("--study", required=True, help=argparse.SUPPRESS)
    parser.add_argument(
        "--partial", action="store_true", help="render what is finished, as report-partial.html"
    )
    parser.add_argument(
        "--records",
        type=Path,
        metavar="FOLDER",
        help="render a record, such as records/digits, as report-records.html",
    )
    options = parser.parse_args(argv)
    if not options.partial and not options.records:
        return stage.main(run, nodes.report, argv)
    try:
        html = (
            render_record(options.records) if options.records else render_report(options.study, partial=True)
        )
        print(html)
    except MoonshineError as error:
        print(f"error: {error}", file=sys.stderr)
        return stage.USAGE_ERROR
    return 0
