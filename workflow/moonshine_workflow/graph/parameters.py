"""Parameters of a node: the resolved values of its keys of params.yaml, and the keys that DVC records."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from moonshine.config import Study
from moonshine_workflow.graph.nodes import Node

DVC_FILE = Path("dvc.yaml")


def resolved(study: Study) -> dict[str, Any]:
    """A study as JSON-able values without defaults, so that it makes no difference whether one is written out."""
    return study.model_dump(mode="json", exclude_defaults=True)


def parameter(settings: dict[str, Any], key: str) -> Any:
    """The value of a key such as ``methods.at`` of a `resolved` study, None where there is none."""
    found: Any = settings
    return reduce(lambda found, part: found and found.get(part), key.split("."), found)


def dvc_params(node: Node) -> list[str]:
    """The keys of params.yaml that dvc.yaml lists for a node."""
    stage = yaml.safe_load(DVC_FILE.read_text(encoding="utf-8"))["stages"][node.stage]
    listed = [key for key in stage.get("params", ()) if isinstance(key, str)]  # others are of other files
    item = dict(zip(stage["matrix"], (node.study, *node.args), strict=True))
    return [re.sub(r"\$\{item\.(\w+)\}", lambda match: item[match[1]], key) for key in listed]
