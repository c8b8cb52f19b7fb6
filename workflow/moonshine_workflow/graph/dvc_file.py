"""dvc.yaml of a project that is no clone: DVC includes no file of a package, so the clone's is adapted and copied."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from moonshine.errors import MoonshineError
from moonshine_workflow.graph.library import COPY, IN_CLONE, INSTALLED

FILE = Path("dvc.yaml")
_HEAD = """\
# The graph for DVC, as the installed moonshine-distil has it; the study is params.yaml. After an upgrade that changes
# the graph, `dvc repro` says so: remove this file, and `moonshine init --graph` writes it again.
"""
_FOLDERS = "moonshine|workflow|notebooks|studies"


def dvc_file() -> str:
    """Return the graph with the copy of the library in place of a clone's files; ``check`` brings that up to date."""
    text = (INSTALLED / "graph.yaml").read_text(encoding="utf-8")
    text = text[text.index("\nstages:") + 1 :]
    text = re.sub(
        r"(?s)(\n  check:\n.*?)    deps:\n(?:      - .*?\n)+(.*?    outs:\n)",
        rf"\1    always_changed: true\n\2      - {COPY}: {{cache: false, persist: true}}\n",
        text,
        count=1,
    )
    return _HEAD + re.sub(rf"(?m)^(      - )({_FOLDERS})/", rf"\1{COPY}/\2/", text)


def check_dvc_file() -> None:
    """MoonshineError for a project's dvc.yaml with stages of another version of the library."""
    if IN_CLONE.is_dir() or not FILE.is_file():
        return
    there = yaml.safe_load(FILE.read_text(encoding="utf-8"))["stages"]
    other = [name for name, stage in yaml.safe_load(dvc_file())["stages"].items() if there.get(name) != stage]
    if other:
        raise MoonshineError(
            f"{FILE}: found other stages than those of the installed version: {', '.join(other)}; remove the file, "
            "then run `moonshine init --graph`"
        )
