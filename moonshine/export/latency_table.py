"""Latencies of a network beside the teacher's, as a table and in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moonshine.costs.budgets import SPREAD
from moonshine.export.timings import Latency, Timing


def latency_section(timings: Sequence[Timing], teacher: Sequence[Timing]) -> Iterator[str]:
    """Lines of Markdown: where the network is slower than its teacher in words, then every figure."""
    if not timings:
        yield "Not in this card: it differs from machine to machine, so it stands apart from what is reproducible."
        return
    before = {(timing.format, timing.threads, row.batch): row for timing in teacher for row in timing.batches}
    measured = [(timing, row) for timing in timings for row in timing.batches]
    yield from _comparison(measured, before)
    yield ""
    threads = ", ".join(sorted({str(timing.threads) for timing in timings}))
    yield f"Milliseconds per batch on a CPU, threads: {threads}; MB are 10^6 bytes of resident memory."
    yield ""
    yield "| format | batch | median | 95th percentile | the teacher's median | peak MB | of which the runtime |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for timing, row in measured:
        theirs = before.get((timing.format, timing.threads, row.batch))
        cells = (
            timing.format,
            row.batch,
            f"{row.median_ms:.3g}",
            f"{row.p95_ms:.3g}",
            f"{theirs.median_ms:.3g}" if theirs else "",
            f"{row.peak_bytes / 1e6:.1f}",
            f"{timing.baseline_bytes / 1e6:.1f}",
        )
        yield "| " + " | ".join(map(str, cells)) + " |"


def _comparison(
    measured: Sequence[tuple[Timing, Latency]], before: dict[tuple[str, int, int], Latency]
) -> Iterator[str]:
    compared = [
        (timing, row, theirs)
        for timing, row in measured
        if (theirs := before.get((timing.format, timing.threads, row.batch)))
    ]
    if not compared:
        yield "The teacher was not measured, so it is not known where this network is slower than it."
        return
    # nearer than that, the difference is one of the moment
    slower = [each for each in compared if each[1].median_ms > (1 + SPREAD) * each[2].median_ms]
    for timing, row, theirs in slower:
        yield (
            f"* **Slower than its teacher** as {timing.format} at batch {row.batch}: {row.median_ms:.3g} ms against "
            f"{theirs.median_ms:.3g} ms."
        )
    if not slower:
        yield (
            "In none of the measured formats and batch sizes is it slower than its teacher by more than "
            f"{SPREAD:.0%}."
        )
