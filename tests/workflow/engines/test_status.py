"""What `moonshine status` says of a study that is untouched, half done, running, finished or changed since."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from moonshine.config import Study, load_study
from moonshine.errors import MoonshineError
from moonshine.files import sha256, write_bytes, write_json
from moonshine.structures.build import to_structure
from moonshine_workflow import cli
from moonshine_workflow.engines import handover
from moonshine_workflow.engines.status import NodeState, summary, survey
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.metrics import RunIdentity
from moonshine_workflow.graph.nodes import Node
from moonshine_workflow.graph.parameters import resolved_values
from moonshine_workflow.graph.work_progress import reporting
from moonshine_workflow.tables import collect
from moonshine_workflow.training.configuration import configuration
from moonshine_workflow.training.progress import Progress
from moonshine_workflow.training.progress_file import read_progress
from tests.messages import naming
from tests.workflow import tiny


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    tiny.write_study(tmp_path)
    return load_study()


def finish(study: Study, node: Node, seconds: float = 10.0) -> None:
    """Leave what a finished node leaves, as far as status reads it."""
    for path in node.outputs:
        if path.name == "structure.json" or node.stage == "structure-teacher":
            to_structure("wrn-10-1").write(path)
        else:
            write_bytes(path, b"")
    if node.trains:
        write_json(node.folder / "config.json", {**configuration(study, node), "inputs": {}})
        write_json(node.timings, {"seconds": seconds})


def states(study: Study) -> dict[str, NodeState]:
    return {one.node.name: one for one in survey(study)}


def test_an_untouched_study_is_all_left_and_its_time_unknown(study: Study) -> None:
    found = survey(study)
    assert {one.state for one in found} == {"left"}
    totals = summary(found, 2)
    assert totals["left"] == len(nodes.all_nodes(study)) == 18
    assert totals["seconds_left"] is None


def test_a_finished_study_has_nothing_left(study: Study) -> None:
    for node in nodes.all_nodes(study):
        finish(study, node)
    totals = summary(survey(study), 2)
    assert (totals["done"], totals["left"], totals["seconds_left"]) == (18, 0, 0)


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b'{"epoch": null, "epochs": 2}', b'{"epoch": "x", "epochs": 2}', b'{"epoch": [], "epochs": 2}',
     b'{"epoch": 1, "epochs": 2, "seconds_at": {"x": 1}}', b'{"epoch": 1, "epochs": 2, "seconds_at": [1]}'],
)  # fmt: skip
def test_damaged_progress_is_as_good_as_none(content: bytes, study: Study) -> None:
    node = nodes.scratch("tiny", "G4", 0)
    write_bytes(node.work / "progress.json", content)
    assert states(study)[node.name].state == "left"
    assert read_progress(node.work / "progress.json") == {}


def test_time_left_comes_from_the_most_alike_node_that_was_measured(study: Study) -> None:
    finish(study, nodes.teacher("tiny"), 100.0)
    finish(study, nodes.scratch("tiny", "G4", 0), 10.0)
    finish(study, nodes.distil("tiny", "BG2-M", "at", 0), 30.0)
    found = states(study)
    assert found["distil@tiny-G4-at-0"].seconds == 10.0  # the same student
    assert found["scratch@tiny-BG2-M-0"].seconds == 30.0
    assert summary(survey(study), 2)["seconds_left"] == (10 + 10 + 30 + 30) / 2


def test_a_search_says_how_far_it_is(study: Study) -> None:
    node = nodes.structure("tiny", "G4")
    with reporting(node) as progress:
        assert states(study)[node.name].state == "running"
        progress("networks exported", 3, None)
        found = states(study)[node.name]
        assert (found.state, found.detail, found.seconds) == ("running", "3 networks exported", 0.0)
        progress("networks scored", 20, 100)
        found = states(study)[node.name]
        assert (found.state, found.detail) == ("running", "20 of 100 networks scored")
        assert found.seconds is not None
    assert states(study)[node.name].state == "left"


def test_a_running_node_says_how_far_it_is(study: Study) -> None:
    node = nodes.teacher("tiny")
    write_json(
        node.work / "progress.json", {"epoch": 3, "epochs": 10, "epoch_seconds": 2.0, "seconds_at": {}}
    )
    with FileLock(node.work / "lock"):
        running = states(study)[node.name]
    assert (running.state, running.detail, running.seconds) == ("running", "epoch 3 of 10", 14.0)
    interrupted = states(study)[node.name]
    assert (interrupted.state, interrupted.detail) == ("left", "interrupted after epoch 3 of 10")


def test_a_resumed_node_is_where_it_was_and_counts_the_seconds_before(study: Study) -> None:
    node = nodes.teacher("tiny")
    identity = RunIdentity(
        study="tiny", node=node.name, student="", network="wrn-10-1", block="S", method="teacher", seed=0
    )
    write_json(node.work / "progress.json", {"epoch": 3, "epochs": 10, "seconds_at": {"2": 30.0, "3": 40.0}})
    with FileLock(node.work / "lock"):
        again = Progress(node, 10, identity, {})
        again.resumed([{"epoch": epoch, "loss": 1.0} for epoch in range(3)])
        assert states(study)[node.name].detail == "epoch 3 of 10"
    assert again.seconds > 40


def test_a_result_of_other_settings_is_outdated(study: Study) -> None:
    node = nodes.distil("tiny", "G4", "at", 0)
    other = nodes.scratch("tiny", "G4", 0)
    finish(study, node)
    finish(study, other)
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["methods"]["at"]["at"]["beta"] = 7.0
    Path("params.yaml").write_text(yaml.safe_dump(content))
    found = states(load_study())
    assert found[node.name].state == "outdated"
    assert found[other.name].state == "done"


def test_data_of_other_settings_and_what_was_trained_on_them_are_outdated(study: Study) -> None:
    for node in nodes.all_nodes(study):
        finish(study, node)
    fetch = nodes.fetch("tiny")
    description = fetch.folder / "dataset.json"
    write_json(description, {"sha256": {"data.safetensors": "1"}})
    write_json(fetch.timings, {"data": resolved_values(study)["data"], "dataset": sha256(description)})
    for node, data in ((nodes.teacher("tiny"), "1"), (nodes.scratch("tiny", "G4", 0), "2")):
        made = json.loads((node.folder / "config.json").read_text())
        write_json(node.folder / "config.json", {**made, "inputs": {"data": data}})
    assert [name for name, one in states(study).items() if one.state == "outdated"] == ["scratch@tiny-G4-0"]
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["data"]["split_seed"] = 7
    Path("params.yaml").write_text(yaml.safe_dump(content))
    found = states(load_study())
    assert found["fetch@tiny"].detail == found["teacher@tiny"].detail == "other data since"
    write_json(description, {"sha256": {"data.safetensors": "1"}, "split_seed": 7})  # as `dvc checkout` does
    assert states(load_study())["teacher@tiny"].state == "done"


def test_nodes_of_another_study_are_neither_collected_nor_handed_over(study: Study) -> None:
    for node in nodes.all_nodes(study):
        finish(study, node)
    collect.check_configurations(study)
    handover.require_same(study)
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["methods"]["at"]["at"]["beta"] = 7.0
    Path("params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(MoonshineError, match=naming("distil@tiny-BG2-M-at-0", "other values of method")):
        collect.check_configurations(load_study())
    with pytest.raises(MoonshineError, match=naming("2 nodes", "study", "distil@tiny-BG2-M-at-0")):
        handover.require_same(load_study())


def test_a_key_that_the_schema_did_not_have_then_is_its_default(study: Study) -> None:
    node = nodes.teacher("tiny")
    finish(study, node)
    made = json.loads((node.folder / "config.json").read_text())
    del made["training"]["devices"], made["augment"]["crop"], made["teacher"]["taps"]
    write_json(node.folder / "config.json", made)
    assert states(study)[node.name].state == "done"


def test_another_teacher_leaves_scratch_of_the_same_network_as_it_is(study: Study) -> None:
    for node in (nodes.teacher("tiny"), nodes.scratch("tiny", "G4", 0), nodes.distil("tiny", "G4", "at", 0)):
        finish(study, node)
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["teacher"]["seed"] = 5
    Path("params.yaml").write_text(yaml.safe_dump(content))
    found = {name: one.state for name, one in states(load_study()).items() if one.state != "left"}
    assert found == {
        "teacher@tiny": "outdated",
        "scratch@tiny-G4-0": "done",
        "distil@tiny-G4-at-0": "outdated",
    }
    content["teacher"]["network"] = "wrn-16-1"
    Path("params.yaml").write_text(yaml.safe_dump(content))
    assert states(load_study())["scratch@tiny-G4-0"].state == "outdated"


def test_an_unfinished_folder_is_not_done(study: Study) -> None:
    node = nodes.teacher("tiny")
    finish(study, node)
    (node.folder / "metrics.json").unlink()
    assert states(study)[node.name].state == "left"


def test_the_command_prints_counts_nodes_and_time(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("moonshine_workflow.commands.status.workers", lambda _: 2)
    finish(study, nodes.teacher("tiny"), 60.0)
    assert cli.main(["status"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("tiny: 1 done, 17 left")
    assert "time left: about 3 min of training, 2 nodes at a time" in shown
    assert cli.main(["status", "--json"]) == 0
    parsed = json.loads(capsys.readouterr().out)
    assert parsed["done"] == 1
    assert len(parsed["nodes"]) == 18


def test_the_command_refuses_a_bad_study(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["students"] = {"G5": {"block": "G(5)"}}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    assert cli.main(["status"]) == 2
    assert "students.G5:" in capsys.readouterr().err
