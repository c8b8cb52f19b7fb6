"""What DVC makes of the study in this folder, asked of its command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moonshine.errors import MoonshineError

PARAMS = "params.yaml"


@dataclass(frozen=True)
class Change:
    """In what a stage differs from its record in ``dvc.lock``: inputs, and anything else (parameters, outputs)."""

    inputs: frozenset[str]
    others: tuple[str, ...]


def dvc(*arguments: str) -> str:
    """Run DVC and return what it printed. Errors: ``MoonshineError`` with DVC's own words."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MoonshineError(f"dvc {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def changes() -> dict[str, Change]:
    """The stages of the study that DVC would run, or that wait for one that it would; none when all is done."""
    found: Mapping[str, list[Any]] = json.loads(dvc("status", "--json"))
    return {stage: _change(differences) for stage, differences in found.items()}


def _change(differences: list[Any]) -> Change:
    inputs: set[str] = set()
    others: list[str] = []
    for difference in differences:
        if not isinstance(difference, dict):  # such as "changed command"
            others.append(str(difference))
            continue
        for kind, paths in difference.items():
            for path, state in paths.items():
                if kind == "changed deps" and path != PARAMS:
                    inputs.add(path)
                else:
                    others.append(
                        f"{path} ({state})" if isinstance(state, str) else f"{path} ({', '.join(state)})"
                    )
    return Change(frozenset(inputs), tuple(others))
