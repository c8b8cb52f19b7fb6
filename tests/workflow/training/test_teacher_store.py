"""The nodes of a study share what their teacher gives, and have the results that they would have without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from moonshine.config.study import parse_study
from moonshine.data.store import Dataset, Split
from moonshine.distillation.teacher_store import address as addresses
from moonshine.distillation.teacher_store.address import execution_address
from moonshine.distillation.term import Pair
from moonshine.structures.build import build
from moonshine.training.execution import Execution
from moonshine.training.processes import SINGLE_PROCESS
from moonshine_workflow import cli
from moonshine_workflow.graph import nodes
from moonshine_workflow.report.teacher_batches import saved
from moonshine_workflow.training.teacher_store import store_of
from tests.workflow import tiny
from tests.workflow.running import run


def use(folder: Path, size: str | int) -> None:
    content = tiny.study(students={"G4": {"block": "G(4)"}})
    content["runtime"]["teacher_store"] = size
    tiny.write_study(folder, content)


def test_one_node_runs_the_teacher_and_all_have_the_same_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    use(tmp_path, 0)
    assert [run("fetch"), run("structure", "G4"), run("teacher")] == [0, 0, 0]
    distilled = [nodes.distil("tiny", "G4", method, 0) for method in ("kd", "at")]
    found: list[Any] = []
    counts: list[Any] = []
    for size in (0, "1MB", "1MB"):
        use(tmp_path, size)
        for node in distilled:
            assert run("distil", str(node.student), str(node.method), "0") == 0
            counts.append(json.loads(node.timings.read_text()).get("teacher_batches"))
        found.append([path.read_bytes() for node in distilled for path in node.outputs[:4]])
    assert found[0] == found[1] == found[2]
    assert counts[:2] == [None, None]
    assert [(each["read"], each["computed"]) for each in counts[2:]] == [(0, 6), (6, 0), (6, 0), (6, 0)]
    assert cli.main(["status"]) == 0
    assert saved(json.loads(node.timings.read_text()) for node in distilled) in capsys.readouterr().out


AT = tiny.STUDY["methods"]["at"]["at"]
MAPS: list[dict[str, Any]] = [{"map": "max"}, {"p": 1.0}]


def what(seed: int = 0, teacher: str = "1", data: str = "1", **changes: Any) -> str | None:
    """The address of a study's outputs; ``changes`` are keys of its sections."""
    content = tiny.study(seeds=[0, 1])
    content["data"]["sha256"] = 64 * "0"
    for section, values in changes.items():
        content[section] = {**content[section], **values} if section != "methods" else values
    study = parse_study(content)
    split = Split(torch.zeros(40, 1, 8, 8, dtype=torch.uint8), torch.zeros(40, dtype=torch.int64))
    dataset = Dataset("noise", split, None, split, (0.5,), (0.5,), 2, ("a", "b"))
    network = build("wrn-10-1", "S", 2, 1)
    pair = Pair(network, network, network.taps, (1, 8, 8))
    inputs = {"data": data, "teacher": teacher}
    execution = Execution(torch.device("cpu"))
    found = store_of(study, study.recipe("G4"), pair, inputs, dataset, seed, execution, SINGLE_PROCESS)
    return found.schedule.address if found else None


def test_an_address_differs_with_all_that_outputs_depend_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    structure = nodes.teacher("tiny").folder / "structure.json"
    structure.parent.mkdir(parents=True)
    structure.write_text("{}")
    first = what()
    assert what() == what(training={"epochs": 9}, runtime={"teacher_store": "1MB"}) == first
    smaller = what(training={"batch_size": 8})
    assert what(students={"G4": {"block": "G(4)", "training": {"batch_size": 8}}}) == smaller
    others = [
        smaller,
        what(seed=1),
        what(teacher="2"),
        what(data="2"),
        what(augment={"flip": True}),
        what(augment={"mixup": 0.4}),
        what(methods={"kd": tiny.STUDY["methods"]["kd"]}),
        *(what(methods={**tiny.STUDY["methods"], "at": {"at": {**AT, **change}}}) for change in MAPS),
    ]
    structure.write_text("{ }")
    others.append(what())
    for change in ({"PACKAGES": ("torch",)}, {"_code": lambda: "other"}):
        with monkeypatch.context() as patch:
            for name, value in change.items():
                patch.setattr(addresses, name, value)
            others.append(what())
    assert len({first, *others}) == 1 + len(others)


def test_a_study_without_a_use_for_a_store_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hints = {"hints": {"hint": "stage2", "guided": "stage2", "epochs": 1, "weight": 1.0}}
    assert what(runtime={"teacher_store": 0}) is None
    assert what(methods={"hints": hints}) is None
    assert what(methods={"gradient": {"gradient_at": {"beta": 1.0}}}) is None


def test_the_way_of_computing_is_a_part_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    ways = [
        execution_address(Execution(cpu), (0, 1)),
        execution_address(Execution(cpu, channels_last=False), (0, 1)),
        execution_address(Execution(cpu, dtype=torch.bfloat16), (0, 1)),
        execution_address(Execution(cpu), (0, 2)),
        execution_address(Execution(cpu), (1, 2)),
    ]
    for name, value in (("get_num_threads", 7), ("build", "other")):
        with monkeypatch.context() as patch:
            owner = torch if name == "get_num_threads" else torch.__config__
            patch.setattr(owner, "show" if name == "build" else name, lambda value=value: value)
            ways.append(execution_address(Execution(cpu), (0, 1)))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    ways.append(execution_address(Execution(cpu), (0, 1)))
    monkeypatch.setattr(addresses, "_processor", lambda: ["another"])
    ways.append(execution_address(Execution(cpu), (0, 1)))
    assert len(set(ways)) == len(ways)


def test_what_was_saved_is_said_in_a_sentence() -> None:
    counts = [{"read": 1500, "computed": 0, "bytes": 2 * 10**6}, {"read": 0, "computed": 500, "bytes": 0}]
    sentence = saved([{"seconds": 1.0}, *({"teacher_batches": each} for each in counts)])
    for part in ("500", "2,000", "2.0 MB"):
        assert part in sentence
    assert saved([{"seconds": 1.0}]) == ""
