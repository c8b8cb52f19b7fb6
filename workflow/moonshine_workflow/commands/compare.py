"""Several studies side by side in one HTML file, rendered from notebooks/compare.ipynb."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from moonshine.errors import MoonshineError
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.mistakes import reports_mistakes
from moonshine_workflow.report.notebooks import FOLDER, render_notebook

_NOTEBOOK = FOLDER / "compare.ipynb"


def compare(studies: Sequence[str], output: Path, root: Path = Path()) -> None:
    """Render the comparison of collected studies to ``output``.

    Errors: ``MoonshineError`` for fewer than two studies, one that has not been collected, or a notebook that
    fails; its half-run copy then lies beside ``output``.
    """
    if len(set(studies)) < 2:
        raise MoonshineError(f"studies: found {', '.join(studies)}; expected at least two different ones")
    for study in studies:
        table = root / nodes.collect(study).folder / nodes.TABLES
        if not table.is_file():
            raise MoonshineError(f"{table}: missing; study '{study}' has not been collected")
    render_notebook(
        _NOTEBOOK,
        {"studies": list(studies), "root": str(root)},
        title=f"moonshine: {', '.join(studies)}",
        html=output,
        notebook=None,
        failed=output.with_name(f"{output.stem}-failed.ipynb"),
    )


@reports_mistakes
def main(argv: Sequence[str]) -> int:
    """``moonshine compare STUDY STUDY ... [--output FILE]``."""
    parser = argparse.ArgumentParser(prog="moonshine compare", description=__doc__)
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="a collected study, by name")
    parser.add_argument(
        "--output",
        type=Path,
        default=nodes.RESULTS / "compare.html",
        metavar="FILE",
        help=f"default: {nodes.RESULTS}/compare.html",
    )
    options = parser.parse_args(argv)
    compare(options.studies, options.output)
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
