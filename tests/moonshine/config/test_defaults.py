"""Sections and keys that a study may leave out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from moonshine.config.defaults import DEFAULTS
from moonshine.config.study import Study, parse_study
from moonshine.errors import MoonshineError

DIGITS: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "studies" / "digits.yaml").read_text())
STATED = {
    **DIGITS,
    **{section: dict(keys) for section, keys in DEFAULTS.items()},
    "training": {"epochs": 6, **DEFAULTS["training"]},
    "ship": {"budget": "60kB onnx-int8", **DEFAULTS["ship"]},
}


def without(section: str, key: str | None = None) -> Study:
    content = copy.deepcopy(STATED)
    del (content[section] if key else content)[key or section]
    return parse_study(content)


@pytest.mark.parametrize("section", ["augment", "runtime", "report"])
def test_a_section_left_out_is_one_that_states_the_defaults(section: str) -> None:
    assert without(section) == parse_study(STATED)


@pytest.mark.parametrize("section", DEFAULTS)
def test_a_key_left_out_is_the_default(section: str) -> None:
    for key in DEFAULTS[section]:
        assert without(section, key) == parse_study(STATED)


def test_a_study_without_ship_exports_nothing() -> None:
    assert without("ship").ship is None


def test_a_default_is_no_excuse_for_what_is_stated() -> None:
    with pytest.raises(MoonshineError, match=r"runtime: found None"):
        parse_study({**STATED, "runtime": None})


def test_what_a_two_line_study_lacks_is_one_line() -> None:
    with pytest.raises(MoonshineError) as refused:
        parse_study({"study": "mine", "teacher": {"network": "wrn-16-1", "seed": 0}})
    (said,) = str(refused.value).splitlines()
    assert said.startswith("params: data, students, methods, seeds, training.epochs: missing;")


def test_the_documentation_has_the_defaults() -> None:
    text = (Path(__file__).parents[3] / "docs" / "params.md").read_text()
    assert yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0]) == DEFAULTS
