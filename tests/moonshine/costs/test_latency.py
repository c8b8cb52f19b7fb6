"""Latencies: the fastest times count, and how far they can be trusted is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch import nn

from moonshine.costs import latency as module
from moonshine.costs.latency import Visit, is_settled, latency, settled


def visits(*totals: float, waited: float = 0.0) -> list[Visit]:
    return [Visit({"block": 0.75 * total, "": 0.25 * total}, waited) for total in totals]


def test_the_two_fastest_visits_count() -> None:
    assert settled(visits(118, 20, 19)) == ({"block": 0.75 * 19.5, "": 0.25 * 19.5}, round(1 / 19, 3))
    assert settled(visits(20, 20))[1] == module.LEAST_SPREAD
    assert settled(visits(20, 20, waited=0.4))[1] == 0.4


def test_a_visit_is_repeated_until_two_agree_or_there_have_been_enough() -> None:
    assert not is_settled(visits(20))
    assert is_settled(visits(20, 21))
    assert not is_settled(visits(20, 118))
    assert not is_settled(visits(20, 20, waited=0.4))
    assert is_settled(visits(20, 118, 20))
    assert is_settled(visits(20, 40, 80, 160))


def test_a_busy_machine_is_told_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for share, said in ((0.0, False), (0.3, True)):

        @contextmanager
        def visiting(share: float = share) -> Iterator[object]:
            yield lambda: share

        monkeypatch.setattr(module, "visiting", visiting)
        monkeypatch.setattr("moonshine.costs.latency.time.perf_counter", iter(range(100)).__next__)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "moonshine"):
            assert latency(nn.Identity(), (1, 1, 2, 2), threads=1) == 1000
        assert ("latency is unreliable: measured again, it differed by 30%" in caplog.text) == said
