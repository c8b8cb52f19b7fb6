"""A term that only its own file and the schema know reaches the history, MLflow, the tables and the report."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn

from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.methods import TermSettings as Settings
from moonshine.config.study import Study
from moonshine.config.training import Training
from moonshine.data.store import Dataset, Split
from moonshine.distillation.objective import distillation
from moonshine.distillation.term import LogitTerm, Pair
from moonshine.files import read_csv, read_json
from moonshine.structures.build import build
from moonshine.structures.structure import StudyStructure
from moonshine.training.execution import Execution
from moonshine.training.objective import Batch
from moonshine.training.train import train
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.metrics import Metrics, RunIdentity
from moonshine_workflow.report import sections
from moonshine_workflow.report.results import load_results
from moonshine_workflow.tables.collect import collect, write_tables
from moonshine_workflow.tracking.back_fill import back_fill
from moonshine_workflow.tracking.store import open_store
from moonshine_workflow.training import files
from tests.workflow.fake_results import make_study, write_results
from tests.workflow.tracking.finished_nodes import active, enter


class Squared(Settings):
    weight: float


class Loss(LogitTerm):
    """The squared difference of logits, after a layer of its own."""

    def __init__(self, settings: Squared, pair: Pair) -> None:
        super().__init__()
        self.weight = settings.weight
        self.layer = nn.Linear(2, 2)

    def of_logits(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        return self.weight * (self.layer(student) - teacher).square().mean()


class Extended(Method):
    squared: Squared | None = Field(None, title="squared logits (SQ)")


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Study:
    file: Any = ModuleType("moonshine.distillation.losses.squared")
    file.Loss = Loss
    monkeypatch.setitem(sys.modules, file.__name__, file)
    monkeypatch.setitem(Method.model_fields, "squared", Extended.model_fields["squared"])
    method = Extended.model_validate({"squared": {"weight": 0.5}})
    return make_study(seeds=[0, 1], students={"G4": {"block": "G(4)"}}).model_copy(
        update={"methods": {"squared": method}}
    )


def train_and_write(study: Study, node: nodes.Node) -> None:
    """What the stage does, on a few images of noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (12, 1, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.arange(12) % 2)
    data = Dataset("noise", split, split, split, (0.5,), (0.2,), 2, ("a", "b"))
    recipe: Training = study.training.model_copy(update={"epochs": 2, "batch_size": 4})
    execution = Execution(torch.device("cpu"))
    student, teacher = (build("wrn-10-1", block, 2, 1) for block in ("G(4)", "S"))
    pair = Pair(student, teacher, (), (1, 8, 8))
    with distillation(pair, study.methods["squared"], recipe.epochs, execution) as objective:
        before = [parameter.detach().clone() for parameter in objective.parameters()]
        augment = Augment(crop_padding=0, flip=False)
        history = train(student, objective, data, recipe, augment, execution, seed=0)
        assert not any(map(torch.equal, before, objective.parameters()))
    found = Metrics.read(node.folder / "metrics.json")
    structure = StudyStructure.read(nodes.structure("digits", "G4").outputs[0])
    identity = RunIdentity(**found.model_dump(include=set(RunIdentity.model_fields)))
    config = read_json(node.folder / "config.json")
    files.write_outputs(node, student, structure, config, history, identity, found.test)


def test_an_unknown_term_is_trained_logged_collected_and_reported(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    write_results(tmp_path, study, gains={"squared": 1.0})
    node = nodes.distil("digits", "G4", "squared", 0)
    train_and_write(study, node)

    rows = read_csv(node.folder / "history.csv")
    assert list(rows[0])[:5] == ["epoch", "lr", "loss", "ce", "squared"]
    assert float(rows[0]["loss"]) == pytest.approx(float(rows[0]["ce"]) + float(rows[0]["squared"]), rel=1e-5)
    assert (
        load_file(node.folder / "weights.safetensors").keys()
        == build("wrn-10-1", "G(4)", 2, 1).state_dict().keys()
    )
    assert read_json(node.folder / "config.json")["method"] == {"squared": {"weight": 0.5}}

    back_fill(Path("results/digits"))
    (run,) = (run for run in active(open_store("digits")) if run.data.tags["moonshine.node"] == node.name)
    assert run.data.metrics["squared"] == pytest.approx(float(rows[-1]["squared"]))
    assert run.data.params["squared_weight"] == "0.5"

    write_tables(collect(study, tmp_path), tmp_path / "results" / "digits")
    results = load_results("digits", tmp_path)
    assert results.columns == ["scratch", "squared"]
    said = re.sub(r"\s+", " ", sections.answer(results).html)
    assert "quared logits (SQ)" in said
    assert "Student by student, SQ is" in said
    assert results.looks["squared"] not in (results.looks["scratch"], 1, 2)
