"""A finished study in a git repository, with invented results."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from moonshine.data.description import Description
from moonshine.data.store import write_dataset
from moonshine.files import sha256, write_json
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.metrics import Metrics
from moonshine_workflow.graph.parameters import resolved_values
from moonshine_workflow.graph.stage import CODE
from moonshine_workflow.tables.collect import collect, write_tables
from moonshine_workflow.tables.shipped import Judged, Shipped
from tests.workflow.fake_results import make_study, write_results

SHIP = {"budget": "1MB fp32", "allowed_error_pct": None, "calibration_images": 8, "logit_tolerance": 0.001}
SHIPPED = "distil@digits-G4-at-0"


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


@pytest.fixture(scope="session")
def recorded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recorded")
    study = make_study(students={"G4": {"block": "G(4)"}, "B2": {"block": "B(2)"}}, seeds=[0, 1], ship=SHIP)
    (root / "params.yaml").write_text(yaml.safe_dump(resolved_values(study), sort_keys=False))
    for folder in CODE:
        (root / folder).mkdir(parents=True)
        (root / folder / "code.py").touch()
    git(root, "init", "--quiet")
    git(root, "add", *CODE)
    git(root, "commit", "--quiet", "--message", "code")
    head = (root / ".git" / (root / ".git" / "HEAD").read_text().split()[1]).read_text().strip()

    write_results(root, study)
    data = root / nodes.fetch("digits").folder
    described = Description.read(data / "dataset.json")
    described = write_dataset(data, {"train_images": torch.zeros(1)}, described, "b" * 64)
    layouts = {
        student: root / nodes.structure("digits", student).outputs[0] for student in (None, *study.students)
    }
    layouts[None].parent.mkdir()
    shutil.copyfile(root / "results/digits/teacher/structure.json", layouts[None])
    for position, node in enumerate(nodes.trained(study)):
        (root / node.outputs[0]).write_bytes(bytes([position]) * 1000)
        shutil.copyfile(
            layouts[node.student], root / node.folder / "structure.json"
        ) if node.student else None
        teacher = sha256(root / nodes.teacher("digits").outputs[0]) if node.stage == "distil" else None
        inputs = {"data": described.sha256["data.safetensors"], "teacher": teacher}
        edit(root / node.folder / "config.json", partial(dict.update, inputs=inputs))
        Metrics.read(root / node.folder / "metrics.json").write(root / node.folder / "metrics.json")
        edit(root / node.timings, partial(dict.update, commit=head))
    write_tables(collect(study, root), root / "results/digits")
    judged = Judged("G4", "at", 0, 2.0, {"network.safetensors": 2.0}, "good")
    Shipped(
        status="shipped",
        budgets=("1MB fp32",),
        counted=("network.safetensors",),
        chosen=judged,
        judged=(judged,),
    ).write(root / "results/digits/export/shipped.json")
    write_json(
        root / "results/digits/export/receipts.json", {"error_pct": 2.0, "examples": 10_000, "receipts": []}
    )
    write_json(root / "results/digits/examples/about.json", {"pictures": [], "classes": [], "networks": []})
    return root


@pytest.fixture
def root(recorded_once: Path, tmp_path: Path) -> Path:
    """A repository with a finished study."""
    return Path(shutil.copytree(recorded_once, tmp_path / "clone"))
