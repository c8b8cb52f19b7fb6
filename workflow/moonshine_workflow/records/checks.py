"""What results must be to be recorded: of the study, of known code, and silent about machines and people."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moonshine.config import Study
from moonshine.errors import MoonshineError, first_few
from moonshine.files import sha256
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.metrics import Metrics
from moonshine_workflow.graph.stage import CODE
from moonshine_workflow.records.record import Record
from moonshine_workflow.training.configuration import changed

DIRTY = "-dirty"
_PATH = re.compile(r"(?:^|[\s\"'=(])((?:~|/[\w.-]+)/[\w./-]+)")


def require_this_study(
    study: Study, node: nodes.Node, folder: Path, metrics: Metrics, config: Mapping[str, Any]
) -> None:
    """MoonshineError unless a node in ``folder`` is of this study, with its settings, its data and its teacher."""
    if (metrics.study, metrics.node) != (study.study, node.name):
        raise MoonshineError(f"{folder}: found {metrics.node} of '{metrics.study}'; expected {node.name}")
    if other := changed(study, node, config):
        raise MoonshineError(f"{folder}: trained with another {', '.join(other)} than params.yaml has")


def require_inputs(path: Path, config: Mapping[str, Any], data: str, teacher: Path) -> None:
    """MoonshineError unless the configuration in ``path`` names these data, and as its teacher these weights."""
    inputs = config["inputs"]
    if inputs["data"] != data:
        raise MoonshineError(
            f"{path}: inputs.data: found {inputs['data']}; expected {data}, the checksum of the data"
        )
    if inputs["teacher"] not in (None, found := sha256(teacher)):
        raise MoonshineError(
            f"{path}: inputs.teacher: found {inputs['teacher']}; expected {found}, that of {teacher}"
        )


def code_checksums(root: Path, commit: str, node: str) -> dict[str, str]:
    """Return git's checksum of each folder of code in a commit, as the node's timings name it.

    ``-dirty`` is taken where the code in the repository ``root`` is now that of the commit. MoonshineError for another
    one, and for a commit that the repository does not have.
    """
    clean = commit.removesuffix(DIRTY)
    try:
        trees = {folder: git(root, "rev-parse", f"{clean}:{folder}") for folder in CODE}
        if clean != commit and git(root, "diff", "--name-only", clean, "--", *CODE):
            raise MoonshineError(f"{node}: commit: found {commit}, code with changes that no commit has")
    except (OSError, subprocess.SubprocessError):
        raise MoonshineError(
            f"{node}: commit: found {commit}, which the repository in {root} does not have"
        ) from None
    return trees


def git(root: Path, *arguments: str) -> str:
    """Return what git prints in the repository ``root``. Errors: OSError, subprocess.SubprocessError."""
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def require_anonymous(path: Path, record: Record, hosts: Iterable[str] = ()) -> None:
    """MoonshineError for a record, to be written to ``path``, with a machine's path or one of these machines' names."""
    text = record.model_dump_json()
    names = [host for host in sorted(set(hosts)) if re.search(rf"\b{re.escape(host)}\b", text)]
    if found := [*_PATH.findall(text), *names]:
        raise MoonshineError(
            f"{path}: found {first_few(found, 3)}, which tells of a machine; allowed: paths in the repository, "
            "and no name of a machine"
        )
