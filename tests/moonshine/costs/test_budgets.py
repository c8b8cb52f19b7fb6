"""Budgets as people write them, and what is said of what is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moonshine.costs.budgets import MEASURES, Budget, cost_increase, parse_budget, parse_budgets, show
from moonshine.errors import MoonshineError
from tests.messages import naming


@pytest.mark.parametrize(
    ("text", "measure", "limit"),
    [
        ("1.2MB", "fp32", 1_200_000),
        ("1.2 MB", "fp32", 1_200_000),
        ("  2MB\n", "fp32", 2_000_000),
        (".5MB", "fp32", 500_000),
        ("800kB", "fp32", 800_000),
        ("800KB", "fp32", 800_000),
        ("123456B", "fp32", 123_456),
        ("1GB", "fp32", 10**9),
        ("1MiB", "fp32", 2**20),
        ("3 KiB", "fp32", 3 * 2**10),
        ("1GiB", "fp32", 2**30),
        ("1.2MB fp32", "fp32", 1_200_000),
        ("1.2MB safetensors", "fp32", 1_200_000),
        ("1.2MB onnx", "onnx", 1_200_000),
        ("1MB onnx-int8", "onnx-int8", 1_000_000),
        ("1 MiB onnx-int8", "onnx-int8", 2**20),
        ("1MB tflite-int8", "tflite-int8", 1_000_000),
        ("256kB ram", "ram", 256_000),
        ("300k params", "parameters", 300_000),
        ("300 k params", "parameters", 300_000),
        ("0.3M parameters", "parameters", 300_000),
        ("162200 params", "parameters", 162_200),
        ("50M macs", "macs", 50_000_000),
        ("1.5G MACs", "macs", 1_500_000_000),
        ("2MB peak", "peak", 2_000_000),
        ("15ms", "latency", 15),
        ("15 ms latency", "latency", 15),
        ("0.5s", "latency", 500),
        ("900us", "latency", 0.9),
    ],
)
def test_every_form(text: str, measure: str, limit: float) -> None:
    budget = parse_budget(text)
    assert budget.measure == measure
    assert budget.limit == pytest.approx(limit, rel=1e-12)
    assert str(budget) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MB",
        "1.2",
        "300k",
        "300kparams",
        "50M",
        "1.2 megabytes",
        "1.2mb",
        "1.2MB zip",
        "1.2MB params",
        "300 macs params",
        "15ms peak",
        "15 minutes",
        "1,2MB",
        "1_000B",
        "1e6B",
        "1..2MB",
        "-1MB",
        "+1MB",
        "nanMB",
        "inf MB",
        "1.2MB;3MB",
        "\N{ARABIC-INDIC DIGIT ONE}MB",
        "1MB\x00",
        15,
        1.5,
        None,
        True,
        ["1MB"],
    ],
)
def test_what_is_no_budget(text: Any) -> None:
    with pytest.raises(MoonshineError) as error:
        parse_budget(text)
    assert str(error.value).startswith(
        f"{text!r} is not a valid budget; allowed: 1.2MB (the fp32 safetensors file)"
    )


@pytest.mark.parametrize("text", ["0MB", "0.0 params", "0ms", "9" * 400 + "MB"])
def test_a_budget_of_nothing_or_without_end(text: str) -> None:
    with pytest.raises(MoonshineError, match=naming(text.strip(), "more than 0")):
        parse_budget(text)


def test_a_budget_of_one_byte_is_one() -> None:
    assert parse_budget("1B") == Budget("fp32", 1, "1B")


def test_the_limit_is_inclusive() -> None:
    budget = parse_budget("1.2MB")
    assert budget.allows(1_200_000)
    assert not budget.allows(1_200_001)


@given(text=st.text(max_size=12) | st.text("0123456789. kMGBimsuparonxt-8", max_size=12))
@example(text="2 kB peak")
def test_any_text_is_a_budget_or_an_error_of_ours(text: str) -> None:
    try:
        budget = parse_budget(text)
    except MoonshineError:
        return
    assert budget.limit > 0
    assert parse_budget(str(budget)) == budget


@given(
    number=st.integers(1, 10**7),
    measure=st.sampled_from(list(MEASURES.values())),
    data=st.data(),
)
def test_every_unit_of_every_measure(number: int, measure: Any, data: st.DataObject) -> None:
    unit = data.draw(st.sampled_from(sorted(measure.units)))
    word = data.draw(st.sampled_from([word for word in measure.words if word or unit]))
    budget = parse_budget(f"{number}{unit} {word}")
    assert (budget.measure, budget.limit) == (measure.name, number * measure.units[unit])


def test_several_at_once() -> None:
    budgets = parse_budgets(["1.2MB", "300k params", "15ms", "1MB onnx-int8"])
    assert [budget.measure for budget in budgets] == ["fp32", "parameters", "latency", "onnx-int8"]
    assert parse_budgets("1.2MB") == (parse_budget("1.2MB"),)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["1MB", "15ms", "900kB"], ["budget", "1MB", "900kB"]),
        (["1MB", "1MB"], ["1MB and 1MB"]),
        ([], ["budget", "none"]),
        (["1MB", "soon"], ["budget", "soon"]),
        (["1MB", 3], ["budget", "3"]),
    ],
)
def test_budgets_that_do_not_go_together(texts: Any, said: list[object]) -> None:
    with pytest.raises(MoonshineError, match=naming(*said)):
        parse_budgets(texts)


@pytest.mark.parametrize(
    ("measure", "value", "shown"),
    [
        ("fp32", 1_234_567, "1.235 MB"),
        ("onnx-int8", 900, "0.001 MB"),
        ("peak", 2e6, "2.000 MB"),
        ("parameters", 8_146_600, "8,146,600"),
        ("macs", 50e6, "50,000,000"),
        ("latency", 12.348, "12.35 ms"),
    ],
)
def test_values_as_people_write_them(measure: str, value: float, shown: str) -> None:
    assert show(measure, value) == shown


def test_what_costs_more_says_in_what() -> None:
    teacher = {"parameters": 100, "macs": 1000}
    assert cost_increase({"parameters": 183, "macs": 900}, teacher) == "1.83 times the parameters"
    assert cost_increase({"parameters": 183, "macs": 1050}, teacher) == (
        "1.83 times the parameters and 1.05 times the MACs"
    )
    assert cost_increase(teacher, teacher) == ""
