"""``moonshine report``: the report of a study, of what is finished of it, or of a record."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from moonshine.config import load_study
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
    """Without an option it is the stage, which needs all that the report shows. A record needs no params.yaml."""
    parser = argparse.ArgumentParser(
        prog="moonshine report", description="Render the report of the study in params.yaml as HTML."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--partial", action="store_true", help="render what is finished, as report-partial.html"
    )
    what.add_argument(
        "--records",
        type=Path,
        metavar="FOLDER",
        help="render a record, such as records/digits, as report-records.html",
    )
    options = parser.parse_args(argv)
    if options.records:
        print(render_record(options.records))
    elif options.partial:
        print(render_report(load_study().study, partial=True))
    else:
        return stage.main(run, nodes.report, ["--study", load_study().study])
    return 0
