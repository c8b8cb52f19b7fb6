"""Latencies of a network beside its teacher's, as a table and in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moonshine.costs.budgets import SPREAD
from moonshine.export.timings import Latency, Timing


def latency_section(timings: Sequence[Timing], teacher: Sequence[Timing]) -> Iterator[str]:
    """Yield lines of Markdown: first where the network is slower than its teacher, then every measurement."""
    if not timings:
        yield "Not part of this card, which is reproducible: latency differs from machine to machine."
        return
    before = {(timing.format, timing.threads, row.batch): row for timing in teacher for row in timing.batches}
    measured = [(timing, row) for timing in timings for row in timing.batches]
    yield from _comparison(measured, before)
    yield ""
    threads = ", ".join(sorted({str(timing.threads) for timing in timings}))
    yield f"Milliseconds per batch on a CPU, threads: {threads}; MB are 10^6 bytes of resident memory."
    yield ""
    yield "| format | batch | median | 95th percentile | teacher's median | peak MB | of which the runtime |"
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
        yield "The teacher was not measured, so the two cannot be compared."
        return
    # a smaller difference is within the noise of a measurement
    slower = [each for each in compared if each[1].median_ms > (1 + SPREAD) * each[2].median_ms]
    for timing, row, theirs in slower:
        yield (
            f"* **Slower than its teacher** as {timing.format} at batch {row.batch}: {row.median_ms:.3g} ms against "
            f"{theirs.median_ms:.3g} ms."
        )
    if not slower:
        yield (f"In no measured format and batch size is it more than {SPREAD:.0%} slower than its teacher.")
