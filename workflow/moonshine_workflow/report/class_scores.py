"""Report sections on classes: top-5 error, IoU per class, and predictions beside the ground truth."""

from __future__ import annotations

import base64

from moonshine.files import read_json
from moonshine_workflow.graph import nodes
from moonshine_workflow.report.markup import Fragment, interval, render
from moonshine_workflow.report.results import Results
from moonshine_workflow.tables.statistics import estimate


def top5(results: Results) -> Fragment:
    """Table of top-5 errors, a row per network; empty where there are too few classes."""
    errors: dict[str, dict[str, list[float]]] = {}
    for run in results.runs:
        if run.test_top5_error_pct is not None:
            errors.setdefault(run.student, {}).setdefault(run.column, []).append(run.test_top5_error_pct)
    rows = [
        [_name(results, student), *(interval(estimate(found.get(column, []))) for column in results.columns)]
        for student, found in errors.items()
    ]
    header = ["Network", *(f"{column} (%)" for column in results.columns)]
    return render("class_scores", "top5", header, rows)


def class_scores(results: Results) -> Fragment:
    """Table of IoU, a row per class and a column per network and method; empty for image classification."""
    scores: dict[tuple[str, str], dict[str, list[float]]] = {}
    for run in results.runs:
        for name, iou in run.test_iou_pct.items():
            found = scores.setdefault((run.student, run.method), {})
            if iou is not None:
                found.setdefault(name, []).append(iou)
    if not scores or not results.dataset:
        return Fragment("")
    rows = [
        [name, *(interval(estimate(found.get(name, [])), 1) for found in scores.values())]
        for name in results.dataset.class_names[: results.dataset.scored_classes]
    ]
    header = ["Class", *(_name(results, *key) for key in scores)]
    return render("class_scores", "class_scores", header, rows)


def example_predictions(results: Results) -> Fragment:
    """A few test images with their ground truth and each network's prediction; empty for image classification."""
    folder = results.root / nodes.examples(results.study).outputs[0]
    about = read_json(folder / nodes.EXAMPLES_FILE) if (folder / nodes.EXAMPLES_FILE).is_file() else {}
    if not about.get("pictures"):
        return Fragment("")
    names = {}
    for network in about["networks"]:
        names[network["node"]] = _name(results, network["student"], network["method"])

    def shown(name: str, index: int, caption: str) -> tuple[str, str]:
        return caption, base64.b64encode((folder / f"{name}-{index}.png").read_bytes()).decode()

    rows = [
        [
            shown("picture", index, f"test image {index}"),
            shown("truth", index, "truth"),
            *(shown(node, index, name) for node, name in names.items()),
        ]
        for index in about["pictures"]
    ]
    classes = [*about["classes"], {"name": "void", "colour": "#000000"}]
    return render("class_scores", "example_predictions", classes, rows)


def _name(results: Results, student: str, method: str = "") -> str:
    if student == "teacher":
        return "teacher"
    label = results.labels.get(student, student)
    return f"{label}, {method}" if method else label
