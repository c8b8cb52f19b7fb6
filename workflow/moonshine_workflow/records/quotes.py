"""What documents quote of a study: tables and sentences as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from statistics import fmean, stdev
from typing import Any

from moonshine.costs.budgets import MEASURES
from moonshine.errors import MoonshineError
from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.parameters import study_of_job
from moonshine_workflow.records.error_tables import (
    budgeted,
    errors,
    families,
    find,
    markdown_table,
    methods,
    short,
    shown_error,
    verdict_on,
)
from moonshine_workflow.records.pictures import pareto_svg, picture_of
from moonshine_workflow.records.repetitions import REPETITIONS, Repetition, read_repetitions
from moonshine_workflow.report.markup import MINUS, interval, listed, number, plural, signed
from moonshine_workflow.report.results import Results
from moonshine_workflow.report.warm_starts import savings

_SPLITS = {"train": "training"}


def setting(results: Results) -> str:
    """Return the data, the schedule and the seeds in a sentence."""
    data = results.dataset
    assert data
    counts = [f"{number(count)} {_SPLITS.get(split, split)}" for split, count in data.counts.items() if count]
    epochs = max(run.epochs_run or 0 for run in results.runs)
    return (
        f"{listed(counts)} images of {data.height}x{data.width}, {plural(epochs, 'epoch')}, "
        f"seed{'s' if len(results.seeds) > 1 else ''} {listed(results.seeds)}."
    )


def pooled(results: Results) -> str:
    """Return every comparison of two methods, pooled over students, in a sentence."""
    found = [effect for effect in results.differences if effect.scope == "pooled"]
    said = [
        f"{short(results, effect.method)} minus {short(results, effect.baseline)} {verdict_on(effect)}"
        for effect in found
    ]
    return f"Pooled over the students: {'; '.join(said)}."


def difference(results: Results, method: str, baseline: str, student: str = "") -> str:
    """Return one difference with its verdict, pooled or of a student."""
    return verdict_on(find(results, method, baseline, student))


def error(results: Results, student: str, method: str) -> str:
    """Return the test error of a student, or of ``teacher``, with its interval."""
    for row in results.rows:
        if row.model.student == student and method in row.errors:
            return shown_error(row.errors[method])
    raise MoonshineError(f"found no error of {student}, {method}")


def machine(results: Results) -> str:
    """Return where and with what the networks were trained, and for how long, in a sentence."""
    timings = [results.timings[run.node] for run in results.runs if run.node in results.timings]
    minutes = sum(timing["seconds"] or 0 for timing in timings) / 60
    places = [
        *_distinct(timings, lambda timing: timing.get("processor")),
        *_distinct(timings, lambda timing: plural(timing["cores"], "core") if "cores" in timing else None),
        *_distinct(timings, lambda timing: f"{plural(timing['threads'], 'thread')} a network"),
        *_distinct(
            timings, lambda timing: " in ".join(filter(None, (timing["device"], timing.get("precision"))))
        ),
        *_distinct(timings, lambda timing: f"torch {timing['versions']['torch']}"),
        *_distinct(timings, lambda timing: f"code of commit {timing['commit'][:7]}"),
    ]
    networks = plural(len(timings), "network")
    return f"{networks}, {number(minutes)} minutes of training in all: {', '.join(places)}."


def files(results: Results) -> str:
    """Return a table of the files that ship: bytes, and test error as run in their own runtime."""
    _require_shipped(results)
    rows = [
        [
            f"`{each['file']}`",
            number(each["bytes"]),
            f"{each['max_logit_difference']:.1e}",
            f"{each['error_pct']:.2f}",
        ]
        for each in results.receipts["receipts"]
    ]
    return markdown_table(["file", "bytes", "largest logit difference", "test error"], rows)


def answer(results: Results) -> str:
    """Return what to ship, in a sentence."""
    shipped = _require_shipped(results)
    chosen = shipped.chosen
    name = shipped.counted[0]
    receipt = next(each for each in results.receipts["receipts"] if each["file"] == name)
    teacher = results.rows[0]
    how = "trained from scratch" if chosen.method == "scratch" else f"with {short(results, chosen.method)}"
    found = f"{number(receipt['bytes'])} bytes (`{name}`), a test error of {receipt['error_pct']:.2f} %"
    instead = f"instead of the {teacher.model.network} teacher's {interval(teacher.only_error)} %"
    return f"Under {listed(shipped.budgets)}, ship {results.labels[chosen.student]} {how}: {found} {instead}."


def summary(results: Results) -> str:
    """Return what to ship, where something does, and what the methods add, in two sentences."""
    ships = results.shipped is not None and results.shipped.chosen is not None
    return f"**{answer(results)}** {pooled(results)}" if ships else pooled(results)


def pareto(results: Results) -> str:
    """Return the figure of error against size, which `pareto_svg` draws, with what it says."""
    return f"![{pareto_svg(results)[1]}]({picture_of(results.study)})"


def repetitions(results: Results) -> str:
    """Return a table of the repetitions with fresh seeds: the pooled difference, its margins, and the verdict."""
    rows = [
        [
            str(each.number),
            f"{each.teacher_error_pct:.2f}",
            signed(each.mean),
            *(f"{margin:.2f}" for margin in (each.half_width, each.test_margin, each.margin)),
            each.verdict,
        ]
        for each in _repeated(results)
    ]
    header = (
        "repetition",
        "teacher's error",
        "difference",
        "± over seeds",
        "± over images",
        "± both",
        "verdict",
    )
    return markdown_table(header, rows)


def repeated(results: Results) -> str:
    """Return how often the verdict came out in repetitions, and their mean and deviation, in a sentence."""
    found = _repeated(results)
    means = [each.mean for each in found]
    verdicts = Counter(each.verdict for each in found)
    return (
        f"{short(results, found[0].method)} minus scratch, pooled, in {plural(len(found), 'repetition')} with fresh "
        f"seeds: {listed(f'{count} {verdict}' for verdict, count in verdicts.most_common())}; "
        f"{signed(fmean(means))} points on average, with a standard deviation of {stdev(means):.2f}."
    )


def warm_starts(results: Results) -> str:
    """Return a table of what warm starts save."""
    rows = [
        [row.warm, row.cold, interval(row.saved, sign=True), interval(row.final, sign=True)]
        for row in savings(results)
    ]
    return markdown_table(
        ["warm start", "cold start", "epochs saved", "final validation error, warm minus cold"], rows
    )


def search(results: Results, student: str) -> str:
    """Return how a mixed student was chosen, in a sentence."""
    record = StudyStructure.read(results.root / nodes.structure(results.study, student).outputs[0]).search
    if record is None:
        raise MoonshineError(f"{student} was not searched for")
    ranks = [
        f"{rho:.2f} with {MEASURES[name].head}".replace("-", MINUS)
        for name, rho in record.spearman.items()
        if rho is not None
    ]
    correlated = f"; its rank correlation is {listed(ranks)}" if ranks else ""
    return f"chosen by `{record.score}` from {number(record.candidates)} candidates{correlated}."


PARTS: dict[str, Callable[..., str]] = {
    part.__name__: part
    for part in (
        setting,
        errors,
        budgeted,
        families,
        methods,
        pooled,
        difference,
        error,
        machine,
        files,
        answer,
        summary,
        pareto,
        warm_starts,
        search,
        repetitions,
        repeated,
    )
}


def _repeated(results: Results) -> list[Repetition]:
    found = read_repetitions(results.folder / REPETITIONS, study_of_job(results.root))
    if len(found) < 2:
        raise MoonshineError(f"found {plural(len(found), 'repetition')}; allowed: 2 or more")
    return found


def _require_shipped(results: Results) -> Any:
    if results.shipped is None or results.shipped.chosen is None:
        raise MoonshineError("nothing ships")
    return results.shipped


def _distinct(timings: Iterable[dict[str, Any]], value: Callable[[dict[str, Any]], str | None]) -> list[str]:
    return sorted({found for timing in timings if (found := value(timing))})
