"""The sections of a report beyond one error: top-5, the IoU of every class, and what the networks see."""

from __future__ import annotations

import base64
from html import escape

from moonshine.files import read_csv, read_json
from workflow import nodes
from workflow.markup import Fragment, html_table
from workflow.results import Results
from workflow.statistics import estimate


def top5(results: Results) -> Fragment:
    """The top-5 errors, a row per network; nothing where there are too few classes to speak of them."""
    errors: dict[str, dict[str, list[float]]] = {}
    for run in results.runs:
        if run.test_top5_error_pct is not None:
            errors.setdefault(run.student, {}).setdefault(run.column, []).append(run.test_top5_error_pct)
    if not errors:
        return Fragment("")
    rows = [
        [_name(results, student, ""), *(_cell(found.get(column, []), 2) for column in results.columns)]
        for student, found in errors.items()
    ]
    header = ["Network", *(f"{escape(column)} (%)" for column in results.columns)]
    return Fragment("<h2>Top-5 error</h2>" + html_table(header, rows, 1))


def class_scores(results: Results) -> Fragment:
    """A row per class and a column per network and method; nothing where images have one label each."""
    scores: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in read_csv(results.tables / "classes.csv"):
        found = scores.setdefault((row["student"], row["method"]), {})
        if row["iou_pct"]:
            found.setdefault(row["class"], []).append(float(row["iou_pct"]))
    if not scores:
        return Fragment("")
    classes = results.dataset["class_names"][: results.dataset["scored_classes"]]
    header = ["Class", *(_name(results, *key) for key in scores)]
    body = [[escape(name), *(_cell(found.get(name, [])) for found in scores.values())] for name in classes]
    return Fragment(
        "<h2>IoU by class</h2>"
        + html_table(header, body, 1)
        + '<p class="note">Intersection over union in percent over the whole test set, void left out; the mean over '
        "seeds with its 95 % interval. Their mean over classes is the mIoU.</p>"
    )


def seen(results: Results) -> Fragment:
    """A few test pictures with their truth and what each network makes of them; nothing without label maps."""
    folder = results.root / nodes.examples(results.study).outputs[0]
    about = read_json(folder / nodes.EXAMPLES_FILE) if (folder / nodes.EXAMPLES_FILE).is_file() else {}
    if not about.get("pictures"):
        return Fragment("")

    def picture(name: str, index: int, caption: str) -> str:
        data = base64.b64encode((folder / f"{name}-{index}.png").read_bytes()).decode()
        return (
            f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )

    rows = []
    for index in about["pictures"]:
        shown = [picture("picture", index, f"test picture {index}"), picture("truth", index, "truth")]
        for network in about["networks"]:
            node, args = network["node"], network["args"]
            student, method = (args[0], args[1] if len(args) > 2 else "scratch") if args else ("teacher", "")
            shown.append(picture(node, index, _name(results, student, method)))
        rows.append(f'<div class="masks">{"".join(shown)}</div>')
    legend = "".join(
        f'<span class="class"><span class="colour" style="background:{each["colour"]}"></span>{escape(each["name"])}'
        "</span>"
        for each in [*about["classes"], {"name": "void", "colour": "#000000"}]
    )
    return Fragment(
        "<h2>What they see</h2><p>The first, the middle and the last test picture, with the networks of the first "
        f'seed.</p><p class="legend">{legend}</p>{"".join(rows)}'
    )


def _name(results: Results, student: str, method: str) -> str:
    if student == "teacher":
        return "teacher"
    label = escape(results.labels.get(student, student))
    return f"{label}, {escape(method)}" if method else label


def _cell(values: list[float], digits: int = 1) -> str:
    found = estimate(values)
    if found.mean is None:
        return "–"
    interval = "" if found.half_width is None else f" ± {found.half_width:.{digits}f}"
    return f"{found.mean:.{digits}f}{interval}"
