"""Figures in documents, drawn from records."""

from __future__ import annotations

from pathlib import Path

from moonshine.errors import MoonshineError
from moonshine_workflow.report.figures.drawing import to_svg
from moonshine_workflow.report.figures.pareto import budgets, draw_study
from moonshine_workflow.report.results import Results

_WIDTH = 7.5
"""Inches: a page of GitHub shows it in full."""


def picture_of(study: str) -> Path:
    """Return the file of a study's figure, in the repository."""
    return Path(f"docs/pictures/{study}.svg")


def pareto_svg(results: Results) -> tuple[str, str]:
    """Return the figure of error against size as SVG, and what it says.

    The size is what the study's budget limits, or parameters. MoonshineError where nothing has been trained.
    """
    height = 3.8 if len(results.rows) <= 20 else 7.0
    drawn = draw_study(results, next(iter(budgets(results)), "parameters"), (_WIDTH, height))
    if drawn is None:
        raise MoonshineError("nothing is trained")
    return to_svg(*drawn), drawn[1]
