"""The ranking of what may ship: by validation error, within the budget, and never by the test set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moonshine.config.networks import Ship
from moonshine_workflow.tables.choice import ShippingChoice, rank_candidates
from moonshine_workflow.tables.rows import Model, Run

MODELS = [Model("big", "wrn-10-1", "G(4)"), Model("small", "wrn-10-1", "BG(2,M)")]
SIZES = {
    "teacher": {"fp32": 900.0, "parameters": 200.0},
    "big": {"fp32": 500.0, "parameters": 100.0},
    "small": {"fp32": 200.0, "parameters": 40.0},
}
VALIDATION = {("big", "scratch"): (12.0, 14.0), ("big", "at"): (9.0, 8.0), ("small", "at"): (20.0, 22.0)}


def ship(budget: str | list[str], allowed: float | None = None) -> Ship:
    return Ship(budget=budget, allowed_error_pct=allowed, calibration_images=8, logit_tolerance=0.001)


def runs(**changes: Any) -> list[Run]:
    found = [
        Run(f"{student}-{method}-{seed}", student, "wrn-10-1", "?", method, method, seed, "completed",
            validation_error_pct=error, test_error_pct=50.0)
        for (student, method), errors in VALIDATION.items()
        for seed, error in enumerate(errors)
    ]  # fmt: skip
    return [replace(run, **changes) for run in found]


def chosen(choice: ShippingChoice) -> tuple[str, str, int | None]:
    first = choice.ranked[0]
    return first.student, first.method, first.seed


def test_the_most_accurate_in_validation_that_fits_comes_first_at_its_best_seed() -> None:
    choice = rank_candidates(ship("600B"), MODELS, runs(), SIZES)
    assert (choice.status, chosen(choice)) == ("ranked", ("big", "at", 1))
    assert [(each.student, each.method) for each in choice.ranked] == [
        ("big", "at"),
        ("big", "scratch"),
        ("small", "at"),
    ]
    assert (choice.ranked[0].validation_pct, choice.ranked[0].seed_validation_pct) == (8.5, 8.0)
    assert choice.ranked[0].sizes == {"fp32": 500.0}


def test_what_does_not_fit_is_not_shipped_however_accurate() -> None:
    choice = rank_candidates(ship("300B"), MODELS, runs(), SIZES)
    assert chosen(choice) == ("small", "at", 0)


def test_every_budget_has_to_hold() -> None:
    assert chosen(rank_candidates(ship(["600B", "50 params"]), MODELS, runs(), SIZES))[0] == "small"


def test_the_test_set_has_no_say() -> None:
    better = [replace(run, test_error_pct=1.0 if run.student == "small" else 99.0) for run in runs()]
    assert rank_candidates(ship("600B"), MODELS, better, SIZES) == rank_candidates(
        ship("600B"), MODELS, runs(), SIZES
    )


def test_where_nothing_fits_the_nearest_is_the_smallest_excess() -> None:
    choice = rank_candidates(ship("100B"), MODELS, runs(), SIZES)
    assert (choice.status, choice.ranked) == ("nothing fits", ())
    assert choice.nearest
    assert choice.nearest.student == "small"


def test_where_nothing_is_accurate_enough_the_nearest_is_the_most_accurate_that_fits() -> None:
    choice = rank_candidates(ship("300B", allowed=10.0), MODELS, runs(), SIZES)
    assert choice.status == "not accurate enough"
    assert choice.nearest
    assert (choice.nearest.student, choice.nearest.seed_validation_pct) == ("small", 20.0)


@pytest.mark.parametrize(
    ("allowed", "ranked"), [(8.0, ["big at"]), (13.0, ["big at", "big scratch"]), (11.0, ["big at"])]
)
def test_what_is_ranked_is_itself_as_accurate_as_allowed(allowed: float, ranked: list[str]) -> None:
    choice = rank_candidates(ship("600B", allowed=allowed), MODELS, runs(), SIZES)
    assert [f"{each.student} {each.method}" for each in choice.ranked] == ranked


def test_what_a_seed_diverged_of_comes_after_what_none_did() -> None:
    one_left = [
        replace(run, status="diverged", validation_error_pct=None)
        if (run.student, run.method, run.seed) == ("big", "at", 0)
        else run
        for run in runs()
    ]
    choice = rank_candidates(ship("600B"), MODELS, one_left, SIZES)
    assert [(each.student, each.method, each.diverged) for each in choice.ranked] == [
        ("big", "scratch", 0),
        ("small", "at", 0),
        ("big", "at", 1),
    ]


def test_without_a_validation_split_nothing_is_chosen() -> None:
    assert (
        rank_candidates(ship("600B"), MODELS, runs(validation_error_pct=None), SIZES).status
        == "no validation"
    )


@pytest.mark.parametrize("status", ["missing", "diverged"])
def test_where_no_run_ended_well_nothing_is_trained(status: str) -> None:
    none = runs(status=status, validation_error_pct=None)
    assert rank_candidates(ship("600B"), MODELS, none, SIZES).status == "nothing trained"


def test_a_diverged_run_is_no_candidate() -> None:
    diverged = [
        replace(run, status="diverged", validation_error_pct=None) if run.student == "big" else run
        for run in runs()
    ]
    assert chosen(rank_candidates(ship("600B"), MODELS, diverged, SIZES))[0] == "small"


def test_what_was_not_measured_does_not_fit() -> None:
    assert rank_candidates(ship("1MB onnx"), MODELS, runs(), SIZES).status == "nothing fits"


@pytest.mark.parametrize(("budget", "fits"), [("1kB", True), ("600B", False)])
def test_a_teacher_that_fits_is_said(budget: str, fits: bool) -> None:
    assert rank_candidates(ship(budget), MODELS, runs(), SIZES).teacher_fits is fits


def test_a_study_that_ships_nothing_says_so() -> None:
    assert rank_candidates(None, MODELS, runs(), SIZES) == ShippingChoice(status="not asked")
