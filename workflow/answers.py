"""The last words of a report: which student to ship under the study's budget, at what cost, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from typing import Any

from moonshine.budgets import parse, show
from workflow.markup import MINUS, Fragment, folded, html_table, listed, number, plural, signed
from workflow.records import MethodError
from workflow.results import Results
from workflow.shipped import Judged, Shipped, warnings

Candidate = Mapping[str, Any]


def what_to_ship(results: Results) -> Fragment:
    """One answer: this student, this much error, these files; or why there is none, and what comes nearest."""
    choice, shipped = results.choice, results.shipped
    status = choice.get("status", "not asked")
    if status == "not asked":
        return Fragment("")
    if status == "ranked" and shipped is not None and shipped.answers(choice):
        status = shipped.status
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
            f"allows.</b> The nearest is {_nearest(results, choice)}."
        ),
        "ranked": lambda: (
            f"<b>Nothing is exported yet.</b> First by the validation error of its network is "
            f"{_named(results, choice['ranked'][0])}; whether it ships is decided by its files."
        ),
        "shipped": lambda: _shipped(results, choice, budget),
    }[status]()
    parts = [f'<h2>What to ship</h2><p class="answer">{said}</p>']
    if status == "shipped":
        assert shipped is not None
        told = warnings(shipped, _candidate(choice, shipped.chosen))
        parts += [f'<div class="notice"><b>{escape(text)}</b></div>' for text in told]
    if status in ("shipped", "not accurate enough"):
        parts.append(_passed_over(results))
    if choice["teacher_fits"]:
        parts.append("<p>The teacher itself fits this budget.</p>")
    if status == "shipped":
        parts.append(_files(results))
    parts.append(_candidates(results, choice))
    return Fragment("".join(parts))


def _candidate(choice: Mapping[str, Any], judged: Judged | None) -> Candidate:
    """What a choice says of the candidate that was judged."""
    assert judged is not None
    return next(
        each
        for each in choice["ranked"]
        if (each["student"], each["method"]) == (judged.student, judged.method)
    )


def _shipped(results: Results, choice: Mapping[str, Any], budget: str) -> str:
    """The error of the files that the budget counts comes first; then that of the network, over its seeds."""
    shipped, receipts = results.shipped, results.receipts
    assert shipped is not None
    chosen = _candidate(choice, shipped.chosen)
    error = _error(results, chosen["student"], chosen["method"])
    teacher = results.rows[0].only_error
    against = None if teacher is None else teacher.mean
    files = [
        f"The test error of its file <code>{escape(receipt['file'])}</code> is {receipt['error_pct']:.2f} %"
        + (
            ""
            if against is None
            else f", {signed(receipt['error_pct'] - against)} points against the teacher’s {against:.2f} %"
        )
        for receipt in receipts.get("receipts", [])
        if receipt["file"] in shipped.counted
    ]
    network = ""
    if error and error.mean is not None:
        half = f" ± {error.half_width:.2f}" if error.half_width is not None else ""
        network = f" The network that it was made from has {receipts['error_pct']:.2f} %; "
        network += (
            f"over {plural(error.n, 'seed')} such networks have {error.mean:.2f}{half} %."
            if half
            else "one seed gives no interval."
        )
    return (
        f"<b>Under {budget} ship {_named(results, chosen)}, seed {chosen['seed']}. {'. '.join(files)}.</b>{network} "
        f"{_sizes(chosen, choice['budgets'])}. The files are in <code>results/{escape(results.study)}/export</code>."
    )


def _nearest(results: Results, choice: Mapping[str, Any]) -> str:
    """What comes nearest to the allowed error: as files where there are any, else as a network."""
    if choice["status"] != "ranked":
        nearest = choice["nearest"]
        return (
            f"{_named(results, nearest)}, seed {nearest['seed']}, whose network has a validation error of "
            f"{nearest['seed_validation_pct']:.2f} %"
        )
    shipped = results.shipped
    assert shipped is not None
    judged = shipped.nearest
    assert judged is not None
    return f"{_named(results, _candidate(choice, judged))}, seed {judged.seed}: {_as_files(shipped, judged)}"


def _as_files(shipped: Shipped, judged: Judged) -> str:
    files = [
        f"<code>{escape(file)}</code> has a validation error of {judged.files_pct[file]:.2f} %"
        for file in shipped.counted
    ]
    return f"{listed(files)}, its network {judged.network_pct:.2f} %"


def _passed_over(results: Results) -> str:
    """The candidates that had their turn before what ships, and what was wrong with their files."""
    shipped = results.shipped
    if shipped is None:
        return ""
    wrong = {"falls": "loses more than the study tolerates", "not accurate enough": "is not accurate enough"}
    lines = [
        f"<li>{_named(results, asdict(each))}, seed {each.seed}, {wrong[each.verdict]}: "
        f"{_as_files(shipped, each)}.</li>"
        for each in shipped.judged
        if each != shipped.chosen and each.verdict in wrong
    ]
    return f"<p>Judged by their files and passed over:</p><ul>{''.join(lines)}</ul>" if lines else ""


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
    found = results.receipts
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
        choice["candidates"],
        key=lambda each: (each["diverged"] > 0, each["validation_pct"] is None, each["validation_pct"] or 0),
    )
    rows = [
        [
            escape(results.labels.get(each["student"], each["student"])),
            escape(each["method"]),
            _validation(each) if each["validation_pct"] is not None else MINUS,
            f"{each['seeds']} of {each['seeds'] + each['diverged']}"
            if each["diverged"]
            else str(each["seeds"]),
            "; ".join(show(measure, value) for measure, value in each["sizes"].items()),
            "yes" if each["fits"] else "no",
        ]
        for each in order
    ]
    header = ["Student", "Method", "Validation error", "Seeds", "Takes", "Fits"]
    return folded("All candidates, as networks", html_table(header, rows, 2))
