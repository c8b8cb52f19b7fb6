"""Deep Compression in a study: what is refused, and how long it takes."""

from __future__ import annotations

from typing import Any

import pytest

from moonshine.config.study import parse_study
from moonshine.errors import MoonshineError
from tests.messages import naming
from tests.moonshine.config.test_study import changed

RECIPE = {"prune": {"rounds": 2, "epochs": 3, "lr": 0.02}, "share": {"epochs": 2, "lr": 0.001}}


def compress(**settings: Any) -> dict[str, Any]:
    return {"sparsity": 0.9, "bits": 5, **RECIPE, **settings}


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ({"block": "G(4)", "compress": compress(bits=0)}, ["compress.bits", "0", "1"]),
        ({"block": "G(4)", "compress": compress(bits=9)}, ["compress.bits", "9", "8"]),
        ({"block": "G(4)", "compress": compress(sparsity=1.0)}, ["compress.sparsity", "1.0", "less than 1"]),
        ({"block": "G(4)", "compress": compress(sparsity=-0.1)}, ["compress.sparsity", "-0.1", "0"]),
        ({"block": "G(4)", "compress": compress(sparsity=None)}, ["compress.sparsity", "missing"]),
        ({"block": "G(4)", "compress": {"sparsity": 0.9, "bits": 5}}, ["compress.prune", "missing"]),
        ({"compress": compress()}, ["block", "network"]),
        ({"rival": {"compress": compress(bits=0)}}, ["rival.compress.bits", "0", "1"]),
        ({"rival": {"compress": compress(sparsity=1)}}, ["rival.compress.sparsity", "1", "less than 1"]),
        ({"rival": {"compress": compress(sparsity=None)}}, ["rival", "budget", "sparsity"]),
        ({"rival": {"compress": compress(), "budget": "1MB"}}, ["budget", "1MB", "60kB dc"]),
        ({"rival": {"compress": compress(), "scale": "width", "budget": "1MB dc"}}, ["scale", "compress"]),
        ({"rival": {"scale": "width"}}, ["rival", "budget", "missing"]),
        ({"rival": {"compress": compress()}, "compress": compress()}, ["rival.compress", "alone"]),
    ],
)
def test_a_mistake_names_the_key_the_value_and_what_is_allowed(
    student: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(MoonshineError, match=naming("students.small", *said)):
        parse_study(changed("students/small", student))


def test_a_moving_average_is_refused_beside_a_compressed_student() -> None:
    content = changed("students/small", {"block": "G(4)", "compress": compress()})
    content["training"]["ema"] = 0.99
    with pytest.raises(MoonshineError, match=naming("training.ema", "0.99", "students.small")):
        parse_study(content)


def test_pretraining_must_end_before_a_compressed_teacher_does() -> None:
    content = changed("students/small", {"rival": {"compress": compress()}})
    hints = {"hint": "stage2", "guided": "stage2", "epochs": 8, "weight": 1.0}
    content["training"]["epochs"] = 20
    content["methods"]["hints"] = {"hints": hints}
    with pytest.raises(MoonshineError, match=naming("methods.hints", "8", "students.small")):
        parse_study(content)


def test_compression_adds_its_epochs_and_the_teacher_is_not_trained_again() -> None:
    content = changed("students/rival", {"rival": {"compress": compress(), "budget": "1MB dc"}})
    content["students"]["finish"] = {"block": "G(4)", "compress": compress()}
    study = parse_study(content)
    trained = study.training.epochs
    assert study.epochs_of("GN", "at") == study.epochs_of("GN") == trained
    assert study.epochs_of("finish", "at") == study.epochs_of("finish") == trained + 8
    assert (study.epochs_of("rival"), study.epochs_of("rival", "at")) == (trained + 8, 8)
