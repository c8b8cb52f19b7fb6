"""Compressed students, from the study to the shipped file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from moonshine.compression.network import encode
from moonshine.compression.pruning import prunable
from moonshine.config import Study, load_study
from moonshine.costs.measured import MeasuredCost
from moonshine.export.writing import write_export
from moonshine.files import read_csv
from moonshine.structures.artifacts import load
from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.metrics import Metrics
from moonshine_workflow.students.layouts import images_of
from moonshine_workflow.students.sizes import about_of
from moonshine_workflow.tables.collect import collect
from moonshine_workflow.training.prepared import load_prepared
from tests.messages import names
from tests.workflow import tiny
from tests.workflow.running import run

RECIPE = {"bits": 3, "prune": {"rounds": 1, "epochs": 1, "lr": 0.02}, "share": {"epochs": 1, "lr": 0.001}}
STUDENTS: dict[str, Any] = {
    "G4": {"block": "G(4)", "compress": {"sparsity": 0.5, **RECIPE}},
    "dc": {"rival": {"compress": RECIPE, "budget": "20kB dc"}},
    "tight": {"rival": {"compress": RECIPE, "budget": "1kB dc"}},
    "sparse": {"rival": {"compress": {"sparsity": 0.5, **RECIPE}, "budget": "20kB dc"}},
}
SHIP = {"budget": "20kB dc"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        at = {"at": tiny.STUDY["methods"]["at"]}
        teacher = {"network": "wrn-10-1", "seed": 7}  # of seed 0 it would be the one trained from scratch
        tiny.write_study(folder, tiny.study(teacher=teacher, students=STUDENTS, methods=at, ship=SHIP))
        commands: list[tuple[str, ...]] = [("fetch",), ("measure",), ("teacher",)]
        for student in ("G4", "dc"):
            commands += [(stage, student) for stage in ("structure", "measure")]
            commands += [("scratch", student, "0"), ("distil", student, "at", "0")]
        for command in commands:
            assert run(*command) == 0, command
        yield load_study()


def trained(study: Study, student: str) -> list[nodes.Node]:
    return [nodes.scratch(study.study, student, 0), nodes.distil(study.study, student, "at", 0)]


def test_a_budget_chooses_the_least_sparsity_whose_file_is_sure_to_fit(study: Study) -> None:
    structure = StudyStructure.read(nodes.structure(study.study, "dc").outputs[0])
    cost = MeasuredCost.read(nodes.measure(study.study, "dc").outputs[0])
    assert structure.compress is not None
    assert 0.5 < structure.compress["sparsity"] < 0.9
    assert 19_000 < cost.bytes["dc"] <= 20_000
    assert (structure.network, structure.block) == ("wrn-10-1", "S")


def test_results_are_those_of_the_network_in_the_file(study: Study) -> None:
    for student, sparsity in (("G4", 0.5), ("dc", None)):
        structure = StudyStructure.read(nodes.structure(study.study, student).outputs[0])
        assert structure.compress is not None
        sparsity = sparsity or structure.compress["sparsity"]
        for node in trained(study, student):
            network, metrics = load(node.folder), Metrics.read(node.folder / "metrics.json")
            for weights in prunable(network).values():
                assert float((weights == 0).float().mean()) == pytest.approx(sparsity, abs=0.01)
                assert len(weights[weights != 0].unique()) <= 2**3
            assert metrics.compressed_bytes == len(encode(network))
            bound = MeasuredCost.read(nodes.measure(study.study, student).outputs[0]).bytes["dc"]
            assert 0.7 * bound < metrics.compressed_bytes <= bound


def test_the_compressed_teacher_is_distilled_from_its_own_weights(study: Study) -> None:
    """Two epochs of two are left out, and what remains of the weights is near what they were."""
    teacher = load(nodes.teacher(study.study).folder)
    for node, epochs, near in zip(trained(study, "dc"), (4, 2), (False, True), strict=True):
        assert len(read_csv(node.folder / "history.csv")) == epochs
        own = prunable(load(node.folder))["head.weight"].detach()
        kept = own != 0
        alike = torch.corrcoef(torch.stack([own[kept], prunable(teacher)["head.weight"].detach()[kept]]))[
            0, 1
        ]
        assert (float(alike) > 0.9) is near


def test_the_file_that_ships_has_the_bytes_that_were_counted(study: Study, tmp_path: Path) -> None:
    (node, _), dataset = trained(study, "G4"), load_prepared(study)
    about = about_of(images_of(study), StudyStructure.read(node.folder / "structure.json"))
    exported = write_export(
        load(node.folder),
        tmp_path / "export",
        about,
        train=dataset.train,
        test=dataset.test,
        calibration=4,
        tolerance=1e-4,
        formats=["dc"],
    )
    (receipt,), metrics = exported.receipts, Metrics.read(node.folder / "metrics.json")
    assert receipt.bytes == (tmp_path / "export" / "network.dc").stat().st_size == metrics.compressed_bytes
    assert metrics.test is not None
    assert receipt.error_pct == exported.error_pct == pytest.approx(metrics.test.error_pct)


def test_the_choice_counts_the_bytes_of_the_files(study: Study) -> None:
    files = collect(study, partial=True)
    counted = [Metrics.read(node.folder / "metrics.json").compressed_bytes for node in trained(study, "dc")]
    assert all(f'"dc": {each}' in files["choice.json"] for each in counted)
    assert all(str(each) in files["tables/runs.csv"] for each in counted)


@pytest.mark.parametrize(
    ("student", "facts"), [("tight", ["1kB dc", "0.99"]), ("sparse", ["20kB dc", "0.5"])]
)
def test_a_budget_out_of_reach_is_refused_before_anything_trains(
    study: Study, student: str, facts: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("structure", student) == 2
    assert names(capfd.readouterr().err, f"students.{student}", "rival.budget", "3 bits", "MB", *facts)
