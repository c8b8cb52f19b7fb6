"""Tables of students' errors as Markdown, for documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from moonshine.blocks.registry import FAMILIES, KINDS, parse_block
from moonshine.costs.budgets import MEASURES
from moonshine.errors import MoonshineError
from moonshine.structures.structure import MIXED
from moonshine_workflow.report.figures.pareto import budgets
from moonshine_workflow.report.markup import interval, number
from moonshine_workflow.report.results import Results
from moonshine_workflow.tables.rows import Difference, MethodError, StudentRow


def errors(results: Results) -> str:
    """Return a table of sizes and test errors, with what the first method adds to training from scratch."""
    return _errors(results, {"": results.rows[1:]}, {"parameters": _parameters, "MACs": _macs})


def families(results: Results) -> str:
    """Return the table of `errors`, with latencies at batch 1, by family of block; ordinary networks come last."""

    def latency(row: StudentRow) -> str:
        return number(results.sizes(row.model.student).get("latency"), 2)

    grouped: dict[str, list[StudentRow]] = {family: [] for family in (*FAMILIES, "no block")}
    for row in results.rows[1:]:
        grouped[_family(row.model.block)].append(row)
    costs = {"parameters": _parameters, "MACs": _macs, "ms": latency}
    return _errors(results, {family: rows for family, rows in grouped.items() if rows}, costs)


def budgeted(results: Results) -> str:
    """Return the table of `errors` with what the study's budgets limit, instead of MACs."""

    def limited(measure: str) -> Callable[[StudentRow], str]:
        return lambda row: number(results.sizes(row.model.student).get(measure))

    costs = {MEASURES[measure].shown: limited(measure) for measure in budgets(results)}
    return _errors(results, {"": results.rows[1:]}, {"parameters": _parameters, **costs})


def methods(results: Results) -> str:
    """Return a table of test errors with a row a method, for a study of many methods and few students."""
    students = results.rows[1:]
    labels = [results.labels[row.model.student] for row in students]
    lines = []
    for method in results.methods:
        against = verdict_on(find(results, method, "scratch")) if method != "scratch" else ""
        found = [shown_error(row.errors.get(method)) for row in students]
        lines.append([f"`{method}`", *found, against])
    return markdown_table(["method", *labels, "minus scratch, pooled"], lines)


def find(results: Results, method: str, baseline: str, student: str = "") -> Difference:
    """Return the difference of two methods, pooled or of a student; MoonshineError where there is none."""
    for effect in results.differences:
        if (effect.method, effect.baseline, effect.student) == (method, baseline, student):
            return effect
    raise MoonshineError(f"found no difference {method} minus {baseline} {student}".rstrip())


def verdict_on(effect: Difference) -> str:
    """Return a difference with its interval and verdict."""
    return f"{interval(effect, sign=True)}, {effect.verdict}"


def shown_error(found: MethodError | None) -> str:
    """Return an error with its interval, and with its seeds where some are missing."""
    short = f" ({found.n} of {found.seeds} seeds)" if found and found.n < found.seeds else ""
    return interval(found) + short


def short(results: Results, method: str) -> str:
    """Return a method's short name."""
    return "scratch" if method == "scratch" else results.spoken(method, is_short=True)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _errors(
    results: Results,
    groups: Mapping[str, Sequence[StudentRow]],
    costs: Mapping[str, Callable[[StudentRow], str]],
) -> str:
    teacher = results.rows[0]
    leading = next(iter(results.compared_with_scratch), None)
    header = [
        f"student of {teacher.model.network} ({_parameters(teacher)} parameters, {_macs(teacher)} MACs, "
        f"error {interval(teacher.only_error)})",
        *costs,
        *(short(results, method) for method in results.methods),
        *([f"{short(results, leading)} minus scratch"] if leading else []),
    ]
    lines = []
    for group, rows in groups.items():
        if group:
            lines.append([f"*{group}*", *[""] * (len(header) - 1)])
        for row in rows:
            found = [shown_error(row.errors.get(method)) for method in results.methods]
            if leading:
                found.append(verdict_on(find(results, leading, "scratch", row.model.student)))
            label = results.labels[row.model.student]
            lines.append([label, *(cost(row) for cost in costs.values()), *found])
    if leading and len(results.rows) > 2:  # the teacher and more than one student
        pooled = verdict_on(find(results, leading, "scratch"))
        lines.append([f"all {len(results.rows) - 1}, pooled", *[""] * (len(header) - 2), pooled])
    return markdown_table(header, lines)


def _family(block: str | None) -> str:
    if block is None or block in ("S", MIXED):
        return "no block"
    kind = KINDS[parse_block(block).kind]
    return next(family for family, kinds in FAMILIES.items() if kind in kinds)


def _parameters(row: StudentRow) -> str:
    return number(row.model.parameters)


def _macs(row: StudentRow) -> str:
    macs = row.model.macs
    return "–" if macs is None else f"{macs / 1e6:,.{2 if macs < 1e8 else 0}f}M"
