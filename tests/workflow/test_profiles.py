"""What jobs ask for, on this machine and on a cluster: the resources of the rules and of the profiles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow.clones import PROJECT, clone, edit_study, fork, succeed

TRAINING = {"teacher", "scratch", "distil"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose rules have no messages, in place of which Snakemake then prints their resources."""
    made = clone(tmp_path_factory.mktemp("profiles"))
    for path in (made / "workflow" / "rules").glob("*.smk"):
        path.write_text(re.sub(r"^ +message:\n.*\n", "", path.read_text(), flags=re.MULTILINE))
    helpers = made / "workflow" / "moonshine_workflow" / "engines" / "rules.py"
    helpers.write_text(helpers.read_text().replace('"/dev/nvidiactl"', '"/dev/null"'))  # a machine with a GPU
    study = made / "params.yaml"
    study.write_text(study.read_text().replace("device: cpu", "device: auto"))
    return made


def asked(folder: Path, *options: str) -> dict[str, dict[str, int]]:
    """The whole-number resources of each rule's job in a dry run."""
    said = succeed(folder, "snakemake", "--dry-run", *options)
    found = re.findall(r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    resources: (.*)", said, flags=re.MULTILINE)
    return {
        rule: {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)\b", text)} for rule, text in found
    }


def profile(name: str) -> dict[str, Any]:
    return yaml.safe_load((PROJECT / "profiles" / name / "profile.yaml").read_text())


def test_a_node_that_trains_takes_a_share_of_a_gpu(folder: Path) -> None:
    found = asked(folder)
    assert {rule for rule, resources in found.items() if resources.get("gpu")} == TRAINING
    for rule in TRAINING:
        assert found[rule]["gpu"] == 1
        assert found[rule]["gpu_mem_mb"] == 8000


def test_no_share_is_larger_than_the_gpu(folder: Path) -> None:
    found = asked(folder, "--resources", "gpu=4", "gpu_mem_mb=5000")
    assert {found[rule]["gpu_mem_mb"] for rule in TRAINING} == {5000}


def test_a_node_on_two_devices_takes_two_gpus(folder: Path, tmp_path: Path) -> None:
    two = fork(folder, tmp_path / "two")
    edit_study(two, lambda study: study["training"].update(devices=2))
    for options in (("--resources", "gpu=4"), ("--workflow-profile", "profiles/slurm")):
        found = asked(two, *options)
        assert {(found[rule]["gpu"], found[rule]["gpu_mem_mb"]) for rule in TRAINING} == {(2, 16000)}


def test_on_a_cluster_every_job_has_limits_that_grow(folder: Path) -> None:
    slurm = ("--workflow-profile", "profiles/slurm")
    first, third = asked(folder, *slurm), asked(folder, *slurm, "--attempt", "3")
    assert first.keys() - {"all"} >= TRAINING | {
        "fetch",
        "structure",
        "measure",
        "collect",
        "export",
        "report",
    }
    for rule in first.keys() - {"all"}:
        for name in ("runtime", "mem_mb"):
            assert third[rule][name] == 3 * first[rule][name] > 0
    assert {rule for rule, resources in first.items() if resources.get("gpu")} == TRAINING


def test_profiles_differ_in_where_jobs_run_alone() -> None:
    """What a profile says of records and failures holds for all: a node made on a cluster is one made here."""
    here, cluster = profile("default"), profile("slurm")
    assert {key: cluster.get(key) for key in here.keys() - {"cores", "resources"}} == {
        key: value for key, value in here.items() if key not in ("cores", "resources")
    }
