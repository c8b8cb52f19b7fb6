"""State of the study according to DVC, through its command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from moonshine.config import load_study
from moonshine.errors import MoonshineError
from moonshine_workflow.engines.locks import require_no_stage
from moonshine_workflow.graph import resolve
from moonshine_workflow.graph.library import refresh_library

OWN_STAGES = ("check", "resolve")
"""Stages before all others, with which DVC reads params.yaml; they are not nodes of the study."""


@dataclass(frozen=True)
class Change:
    """Differences of a stage from its record in ``dvc.lock``: inputs, and others (parameters, outputs)."""

    inputs: frozenset[str]
    others: tuple[str, ...]


def dvc(*arguments: str) -> str:
    """Run DVC and return what it printed. Errors: ``MoonshineError`` with DVC's own words; ``ModuleNotFoundError``."""
    if find_spec("dvc") is None:
        raise ModuleNotFoundError("dvc", name="dvc")
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MoonshineError(f"dvc {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def changes() -> dict[str, Change]:
    """The nodes of the study that DVC would run, or that wait for one that it would; none when all is done.

    Their parameters, which DVC reads by running a stage each time, are first brought up to date, and so is the copy of
    an installed library.
    Errors: ``MoonshineError`` as of `moonshine_workflow.graph.resolve.refresh`, with DVC's own words, and while DVC
    runs a stage, for which it would record those parameters as what the stage has used.
    """
    require_no_stage()
    refresh_library()
    resolve.refresh(load_study())
    found: Mapping[str, list[Any]] = json.loads(dvc("status", "--json"))
    return {
        stage: _change(differences)
        for stage, differences in found.items()
        if stage.partition("@")[0] not in OWN_STAGES
    }


def _change(differences: list[Any]) -> Change:
    inputs: set[str] = set()
    others: list[str] = []
    for difference in differences:
        if not isinstance(difference, dict):  # such as "changed command"
            others.append(str(difference))
            continue
        for kind, paths in difference.items():
            for path, state in paths.items():
                if not isinstance(state, str):  # parameters, by key
                    others.append(f"{path} ({', '.join(state)})")
                elif kind == "changed deps":
                    inputs.add(path)
                else:
                    others.append(f"{path} ({state})")
    return Change(frozenset(inputs), tuple(others))
