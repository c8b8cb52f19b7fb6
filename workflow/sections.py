"""The words and tables of a report, generated from a study's results."""

from __future__ import annotations

from html import escape

from moonshine.budgets import dearer
from workflow.markup import (
    MINUS,
    Fragment,
    effect_text,
    error_cell,
    folded,
    html_table,
    listed,
    number,
    plural,
    signed,
)
from workflow.records import Difference, look_alikes
from workflow.results import Results
from workflow.statistics import margin_of_both


def title(results: Results) -> Fragment:
    """The heading: what was studied, on what."""
    data = results.dataset.get("name", "")
    on = f" <small>on {escape(str(data))}</small>" if data and data != results.study else ""
    return Fragment(f"<h1>moonshine: {escape(results.study)}{on}</h1>")


_NAMES = {
    "scratch": ("training from scratch", "training from scratch"),
    "at": ("attention transfer (AT)", "AT"),
    "kd": ("knowledge distillation (KD)", "KD"),
}


def _spoken(results: Results, method: str) -> tuple[str, str]:
    """A method in full and in short; a key that is not plainly its loss is quoted."""
    if results.terms.get(method) == method and method in _NAMES:
        return _NAMES[method]
    return f"“{escape(method)}”", f"“{escape(method)}”"


def effect_sentence(results: Results, effect: Difference) -> str:
    """One pooled comparison in words, which claim a difference only where the verdict does."""
    method, baseline = _spoken(results, effect.method)[0], _spoken(results, effect.baseline)[0]
    if effect.mean is None:
        return f"There is no pair of completed runs yet to compare {method} with {baseline}."
    size = f"{abs(effect.mean):.2f} points {'lower' if effect.mean < 0 else 'higher'}"
    students = len({run.student for run in results.runs if run.student != "teacher"})
    of = f" of {students}" if effect.students < students else ""
    basis = f"{effect.students}{of} student{'s' if students > 1 else ''}, {plural(effect.seeds, 'seed')}"
    if effect.half_width is None:
        return (
            f"<b>Inconclusive:</b> the test error with {method} is {size} than with {baseline} ({basis}), "
            "but one seed gives no interval."
        )
    low, high = effect.mean - effect.half_width, effect.mean + effect.half_width
    measured = (
        f"its test error, averaged over students, is {size} "
        f"(95 % interval over seeds {signed(low)} to {signed(high)}; {basis})"
    )
    if effect.verdict != "inconclusive":
        verb = "beats" if effect.verdict == "better" else "is worse than"
        return f"<b>{method[0].upper()}{method[1:]} {verb} {baseline} here:</b> {measured}."
    inside = []
    if low <= 0 <= high:
        inside.append("the interval includes no difference")
    margin = effect.test_margin
    if margin is None:
        inside.append("what the choice of test images leaves open is unknown")
    elif abs(effect.mean) <= margin:
        inside.append(f"the choice of test images alone leaves ±{margin:.2f} points open")
    elif not inside:
        both = margin_of_both(effect.half_width, margin)
        inside.append(
            f"with the ±{margin:.2f} points that the choice of test images leaves open the interval is ±{both:.2f} "
            "points wide and includes no difference"
        )
    return f"<b>Inconclusive whether {method} beats {baseline} here:</b> {measured}, but {listed(inside)}."


def answer(results: Results) -> Fragment:
    """The report's first words: whether attention transfer (or the first method) beats scratch here."""
    pooled = [effect for effect in results.differences if effect.scope == "pooled"]
    parts = []
    if pooled:
        parts.append(f'<p class="answer">{effect_sentence(results, pooled[0])}</p>')
        parts.append(f"<p>{_per_student(results, pooled[0])}</p>")
        others = [effect_sentence(results, effect) for effect in pooled[1:] if effect.baseline == "scratch"]
        parts.extend(f"<p>{sentence}</p>" for sentence in others)
    teacher = results.rows[0]
    error = teacher.only_error
    if error is not None and error.mean is not None:
        size = "" if teacher.model.parameters is None else f" with {teacher.model.parameters:,} parameters"
        parts.append(
            f"<p>The teacher, {escape(teacher.model.network or '')}{size}, has "
            f"{_of_the_teacher(results, error.mean)}{_of_the_test_set(error.test_se)}.</p>"
        )
    return Fragment("".join(parts))


def _of_the_teacher(results: Results, error: float) -> str:
    return f"an mIoU of {100 - error:.2f} %" if results.is_dense else f"a test error of {error:.2f} %"


def _of_the_test_set(test_se: float | None) -> str:
    return "" if test_se is None else f" (the test set’s standard error is {test_se:.2f} points)"


def _per_student(results: Results, pooled: Difference) -> str:
    effects = [
        effect
        for effect in results.differences
        if effect.scope == "student" and (effect.method, effect.baseline) == (pooled.method, pooled.baseline)
    ]
    said = []
    for verdict in ("better", "worse", "inconclusive"):
        names = [escape(results.labels[effect.student]) for effect in effects if effect.verdict == verdict]
        if names:
            said.append(f"{verdict} for {listed(names)}")
    text = f"Student by student, {_spoken(results, pooled.method)[1]} is {'; '.join(said)}."
    if len(effects) >= 10:
        text += f" Of {len(effects)} such intervals, about one in twenty misses its true value by chance."
    return text


def notices(results: Results) -> Fragment:
    """What a reader must know first: a partial report, diverged runs, results that were re-stamped."""
    parts = []
    missing, diverged = results.count("missing"), results.count("diverged")
    if results.partial or missing:
        done = len(results.runs) - len(missing)
        text = f"<b>Partial report:</b> {done} of {len(results.runs)} trained networks are there."
        if missing:
            names = "".join(f"<li>{escape(run.node)}</li>" for run in missing)
            text += folded(f"{plural(len(missing), 'node')} missing", f"<ul>{names}</ul>")
        parts.append(text)
    if diverged:
        names = listed([escape(run.node) for run in diverged])
        parts.append(f"<b>Diverged and left out of every mean:</b> {names}.")
    parts += [f"<b>The teacher:</b> {escape(run.warnings)}" for run in results.runs if run.warnings]
    parts += _dearer(results)
    for stamp in results.restamps:
        parts.append(
            f"<b>Results were re-stamped:</b> on {escape(stamp['when'][:10])} {plural(len(stamp['nodes']), 'node')} "
            "declared valid after a change of code, and not run again. Reason given: "
            f"“{escape(stamp['reason'])}”."
        )
    return Fragment("".join(f'<div class="notice">{part}</div>' for part in parts))


def _dearer(results: Results) -> list[str]:
    """A sentence for each student that costs more than its teacher in parameters or MACs."""
    costs = {
        row.model.student: {"parameters": row.model.parameters, "macs": row.model.macs}
        for row in results.rows
        if row.model.parameters and row.model.macs
    }
    teacher = costs.pop("teacher", None)
    found = {name: dearer(cost, teacher) for name, cost in costs.items()} if teacher else {}
    return [
        f"<b>{escape(results.labels[name])} costs more than the teacher:</b> {more}."
        for name, more in found.items()
        if more
    ]


def _note(text: str) -> str:
    return f'<p class="note">{text}</p>'


def _errors_are(results: Results) -> str:
    if results.is_dense:
        return (
            "Errors are 100 − mIoU in percent: intersection over union, averaged over the scored classes, void left "
            "out. Test SE is the test set’s own standard error in points, from the jackknife over its pictures. Errors "
            "are those"
        )
    return (
        "Errors are top-1, in percent of the test set. Test SE is the test set’s own binomial standard error in "
        "points. Errors are those"
    )


def main_table(results: Results) -> Fragment:
    """Network, block, sizes, and the error of each method as mean and interval."""
    header = ["Network", "Block", "Parameters", "MACs (M)", "Compression"]
    header += [f"{escape(column)} (%)" for column in results.columns] + ["Test SE"]
    rows = []
    alike = look_alikes(results.rows)
    for row in results.rows:
        model = row.model
        network, block = escape(model.network or model.student), escape(model.block or "–")
        test_se = [error.test_se for error in row.errors.values() if error.test_se is not None]
        rows.append(
            [
                f"{network} <small>(teacher)</small>" if model.student == "teacher" else network,
                f"{block} <small>{escape(model.student)}</small>" if model.student in alike else block,
                number(model.parameters),
                number(model.macs, 1e6, 1),
                "–" if model.compression is None else f"{model.compression:.1f}×",
                *(error_cell(row.errors.get(column)) for column in results.columns),
                number(max(test_se, default=None), digits=2),
            ]
        )
    note = _note(
        f"{_errors_are(results)} after the last epoch, as mean ± half-width of the 95 % Student’s t interval over "
        "seeds. The largest test SE of the row is given; it does not shrink with seeds. MACs are "
        "multiply-accumulates of convolutions and linear layers for one image."
    )
    sizes = [
        [
            escape(results.labels[row.model.student]),
            number(row.model.ops, 1e6, 1),
            number(row.model.bytes_fp32, 1e6, 3),
            number(row.model.bytes_bf16, 1e6, 3),
            number(row.model.peak_activation_bytes, 1e6, 3),
        ]
        for row in results.rows
    ]
    more = ["Student", "Ops (M)", "File fp32 (MB)", "File bf16 (MB)", "Peak activations (MB)"]
    sizes_table = folded(
        "Operations as published, file sizes and activation memory", html_table(more, sizes, 1)
    )
    return Fragment(html_table(header, rows, 2) + note + sizes_table)


def effects_table(results: Results) -> Fragment:
    """Every comparison pooled over students, and per student folded away."""

    def line(effect: Difference, first: str) -> list[str]:
        short = f" of {effect.expected_seeds}" if effect.seeds < effect.expected_seeds else ""
        test_se = number(effect.test_se, digits=2)
        return [first, effect.verdict, effect_text(effect), test_se, f"{effect.seeds}{short}"]

    def name(effect: Difference) -> str:
        return f"{escape(effect.method)} {MINUS} {escape(effect.baseline)}"

    tail = ["Verdict", "Difference (points)", "Test SE", "Seeds"]
    pooled = [effect for effect in results.differences if effect.scope == "pooled"]
    single = [effect for effect in results.differences if effect.scope == "student"]
    html = html_table(["Pooled", *tail], [line(effect, name(effect)) for effect in pooled], 2)
    rows = [line(effect, f"{escape(results.labels[effect.student])}: {name(effect)}") for effect in single]
    multiple = "Student’s t (pictures − 1 degrees of freedom) times" if results.is_dense else "1.96"
    note = _note(
        "Differences are paired by seed; below zero favours the first. Pooled: the average over students at "
        "each seed, then Student’s t over seeds, because students share seeds and a teacher. Test SE is the "
        "test set’s own standard error of the difference: image by image where the runs recorded what each "
        "says, else an upper bound. A difference is called better or worse only outside the 95 % interval over seeds "
        f"and test images together: its half-width is that over seeds and {multiple} test SE, added in quadrature."
    )
    return Fragment(
        html + note + folded("Every comparison, student by student", html_table(["Student", *tail], rows, 2))
    )


def published_title(results: Results) -> Fragment:
    """The heading, the source of the published errors and what has none, where the study names a file of them."""
    if results.published_file is None:
        return Fragment("")
    file, data = escape(results.published_file), escape(str(results.dataset.get("name", "")))
    missing = results.unpublished
    parts = [" ".join(escape(line) for line in results.published_source)]
    if len(missing) == len(results.rows) and not results.published_source:
        teacher = escape(results.rows[0].model.network or "")
        parts = [
            f"{file} has no figure of {data} with the teacher {teacher} for any network and method here."
        ]
    elif missing:
        names = [
            f"{escape(results.labels[student])} ({', '.join(map(escape, methods))})"
            for student, methods in missing.items()
        ]
        parts.append(f"{file} has no figure of {data} for {listed(names)}.")
    return Fragment("<h2>Beside the published figures</h2>" + "".join(_note(part) for part in parts if part))


def published_table(results: Results) -> Fragment:
    """Published errors beside ours."""
    rows = []
    for row in results.rows:
        for method, error in row.errors.items():
            if error.published is not None:
                shift = "–" if error.mean is None else signed(error.mean - error.published)
                names = [escape(results.labels[row.model.student]), escape(method)]
                rows.append([*names, error_cell(error), f"{error.published:.2f}", shift])
    if not rows:
        return Fragment("")
    header = ["Student", "Method", "Ours (%)", "Published (%)", f"Ours {MINUS} published"]
    return Fragment(folded("Every number", html_table(header, rows, 2)))
