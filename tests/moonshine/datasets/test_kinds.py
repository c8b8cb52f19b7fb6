"""The list of kinds: what follows from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from moonshine.datasets import DATASET_KINDS
from moonshine.datasets.kind import DataSection

PARAMETERS = (Path(__file__).parents[3] / "docs" / "params.md").read_text()


@pytest.mark.parametrize("kind", DATASET_KINDS)
def test_the_documentation_explains_every_kind_and_key(kind: type[DataSection]) -> None:
    row = next(line for line in PARAMETERS.splitlines() if line.startswith("| `data.name` |"))
    assert all(f"`{called.split()[0]}`" in row for called in kind.called())
    assert [key for key in kind.model_fields if f"`data.{key}`" not in PARAMETERS] == []


def test_what_a_study_calls_the_kinds() -> None:
    called = [name for kind in DATASET_KINDS for name in kind.called()]
    assert len(called) == len(set(called))
    assert {"cifar10", "cifar100", "generated maps"} <= set(called)


def test_a_study_is_read_without_the_libraries_that_prepare_its_data() -> None:
    code = (
        "import sys, moonshine.config; "
        "print([name for name in ('numpy', 'torch', 'PIL', 'sklearn') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
