"""The last words of a report: which student to ship under the study's budget, at what cost, and where its files are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from moonshine.budgets import parse, show
from workflow.markup import MINUS, Fragment, folded, html_table, listed, number, plural, signed
from workflow.records import MethodError
from workflow.results import Results

Candidate = Mapping[str, Any]


def what_to_ship(results: Results) -> Fragment:
    """One answer: this student, this much error, these files; or why there is none, and what comes nearest."""
    choice = results.choice
    status = choice.get("status", "not asked")
    if status == "not asked":
        return Fragment("")
    budget = escape(listed([str(text) for text in choice["budgets"]]))
    said = {
        "no validation": lambda: (
            "<b>Nothing is chosen:</b> the study has no validation split, and the test set is not there to choose on."
        ),
        "nothing trained": lambda: "<b>Nothing is chosen:</b> no student has been trained to the end.",
        "nothing fits": lambda: (
            f"<b>No student fits {budget}.</b> The nearest is {_named(results, choice['nearest'])}: "
            f"{_sizes(choice['nearest'], choice['budgets'])}."
        ),
        "not accurate enough": lambda: (
            f"<b>No student that fits {budget} is within the {choice['allowed_error_pct']:g} % error that the study "
            f"allows.</b> The nearest is {_named(results, choice['nearest'])}, with a validation error of "
            f"{_validation(choice['nearest'])}."
        ),
        "shipped": lambda: _shipped(results, choice, budget),
    }[status]()
    parts = [f'<h2>What to ship</h2><p class="answer">{said}</p>']
    if choice["teacher_fits"]:
        parts.append("<p>The teacher itself fits this budget.</p>")
    if status == "shipped":
        parts.append(_files(results))
    parts.append(_candidates(results, choice))
    return Fragment("".join(parts))


def _shipped(results: Results, choice: Mapping[str, Any], budget: str) -> str:
    chosen = choice["chosen"]
    error = _error(results, chosen["student"], chosen["method"])
    teacher = _error(results, "teacher", "scratch")
    cost = ""
    if error and error.mean is not None:
        half = f" ± {error.half_width:.2f}" if error.half_width is not None else ""
        cost = f" Its test error is {error.mean:.2f}{half} % over {plural(error.n, 'seed')}"
        if teacher and teacher.mean is not None:
            more = error.mean - teacher.mean
            cost += (
                f", {signed(more)}{half} points against the teacher’s {teacher.mean:.2f} %"
                " (the teacher taken as given)"
            )
        cost += "." if half else "; one seed gives no interval."
    return (
        f"<b>Under {budget} ship {_named(results, chosen)}, seed {chosen['seed']}.</b>{cost} "
        f"{_sizes(chosen, choice['budgets'])}. The files are in <code>results/{escape(results.study)}/export</code>."
    )


def _named(results: Results, candidate: Candidate) -> str:
    label = results.labels.get(candidate["student"]) or str(candidate["student"])
    how = "from scratch" if candidate["method"] == "scratch" else f"with {escape(candidate['method'])}"
    return f"{escape(label)} trained {how}"


def _sizes(candidate: Candidate, budgets: list[str]) -> str:
    limits = [parse(text) for text in budgets]
    shown = [
        f"{show(budget.measure, candidate['sizes'][budget.measure])} of {escape(str(budget))}"
        for budget in limits
        if budget.measure in candidate["sizes"]
    ]
    return f"It takes {listed(shown)}" if shown else "What it takes was not measured"


def _validation(candidate: Candidate) -> str:
    half = candidate["validation_half_width"]
    return f"{candidate['validation_pct']:.2f}" + (f" ± {half:.2f} %" if half is not None else " %")


def _error(results: Results, student: str, method: str) -> MethodError | None:
    row = next((row for row in results.rows if row.model.student == student), None)
    return row.errors.get(method) if row else None


def _files(results: Results) -> str:
    path = results.folder / "export" / "receipts.json"
    if not path.is_file():
        return "<p>Its files are not exported yet.</p>"
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        [
            f'<a href="export/{escape(receipt["file"])}"><code>{escape(receipt["file"])}</code></a>',
            number(receipt["bytes"], 1e6, 3),
            f"{receipt['max_logit_difference']:.1e}",
            f"{receipt['error_pct']:.2f}",
            signed(receipt["error_pct"] - found["error_pct"]),
            f"<code>{escape(receipt['sha256'][:16])}…</code>",
        ]
        for receipt in found["receipts"]
    ]
    header = [
        "File",
        "MB",
        "Logits differ by",
        "100 − mIoU (%)" if results.is_dense else "Test error (%)",
        "Change (points)",
        "SHA-256",
    ]
    note = (
        f'<p class="note">Every file was run on all {found["examples"]:,} test images in its own runtime and compared '
        f"with the PyTorch network ({found['error_pct']:.2f} %).</p>"
    )
    return html_table(header, rows, 1) + note + _latencies(results)


def _latencies(results: Results) -> str:
    timing = results.timings.get(f"export@{results.study}", {}).get("receipts", [])
    rows = [
        [
            f"<code>{escape(file['file'])}</code>",
            str(batch["batch"]),
            f"{batch['median_ms']:.2f}",
            f"{batch['p95_ms']:.2f}",
            number(batch["peak_bytes"], 1e6, 1),
            number(file["baseline_bytes"], 1e6, 1),
        ]
        for file in timing
        for batch in file["batches"]
    ]
    if not rows:
        return ""
    header = [
        "File",
        "Batch",
        "Median (ms)",
        "95th percentile (ms)",
        "Peak memory (MB)",
        "of it the runtime (MB)",
    ]
    return folded("Latency and memory of each file", html_table(header, rows, 1))


def _candidates(results: Results, choice: Mapping[str, Any]) -> str:
    """Everything that was chosen from, by validation error: what the test set had no say in."""
    order = sorted(
        choice["candidates"], key=lambda each: (each["validation_pct"] is None, each["validation_pct"])
    )
    rows = [
        [
            escape(results.labels.get(each["student"], each["student"])),
            escape(each["method"]),
            _validation(each) if each["validation_pct"] is not None else MINUS,
            "; ".join(show(measure, value) for measure, value in each["sizes"].items()),
            "yes" if each["fits"] else "no",
        ]
        for each in order
    ]
    header = ["Student", "Method", "Validation error", "Takes", "Fits"]
    return folded("All candidates", html_table(header, rows, 2))
