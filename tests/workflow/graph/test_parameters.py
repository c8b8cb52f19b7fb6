"""A study survives the form in which the engines compare it and their commands read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moonshine.config import Study, load_study
from moonshine.config.study import parse_study
from moonshine.structures.build import to_structure
from moonshine_workflow.engines import rules
from moonshine_workflow.graph import nodes, resolve
from moonshine_workflow.graph.parameters import parameters, study_of_job
from tests.workflow import tiny
from tests.workflow.clones import PROJECT

STUDIES = sorted((PROJECT / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_read_as_it_was_written(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(path)
    monkeypatch.chdir(tmp_path)
    resolve.refresh(study)
    monkeypatch.setenv(nodes.PARAMS_VARIABLE, str(nodes.resolved_file(study.study)))
    found = study_of_job()
    assert found == study
    assert [*found.students, *found.methods] == [*study.students, *study.methods]  # the order of the tables


def test_what_a_study_leaves_out_is_a_parameter_all_the_same() -> None:
    stated = tiny.study(data={**tiny.STUDY["data"], "sha256": "0" * 64})
    left_out = {key: value for key, value in stated.items() if key not in ("report", "runtime", "ship")}
    found = parameters(parse_study(left_out))
    assert found == {**parameters(parse_study(stated)), "runtime": {**stated["runtime"], "device": "auto"}}
    assert found["report"] == {"published": None}


def study_with(student: dict[str, Any]) -> Study:
    arrays = {**tiny.STUDY["data"], "sha256": "0" * 64}
    return parse_study(tiny.study(data=arrays, students={"mine": student}))


def test_patterns_in_another_order_are_a_change_and_survive_the_files_of_both_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two, rest = ("stage3.*", "B(2)"), ("stage?.0", "G(4)"), ("*", "S")
    said = []
    for patterns in ((one, two, rest), (two, one, rest)):
        study = study_with({"blocks": dict(patterns)})
        said.append(rules.setting(parameters(study), "layouts.students.mine")({}))
        for write in (resolve.refresh, rules.keep):
            monkeypatch.setenv(nodes.PARAMS_VARIABLE, str(nodes.resolved_file("tiny")))
            write(study)  # the latter names a file of its own
            assert tuple((study_of_job().students["mine"].blocks or {}).items()) == patterns
    assert said[0] != said[1]


def test_what_counts_of_the_users_own_published_errors_is_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = parse_study(
        tiny.study(data={**tiny.STUDY["data"], "sha256": "0" * 64}, report={"published": "mine.csv"})
    )
    Path("mine.csv").write_text("data,teacher\n")
    one, again = parameters(study)["report"], parameters(study)["report"]
    Path("mine.csv").write_text("data,teacher,network\n")
    other = parameters(study)["report"]
    assert one == again != other
    resolve.refresh(study)
    monkeypatch.setenv(nodes.PARAMS_VARIABLE, str(nodes.resolved_file(study.study)))
    assert study_of_job() == study
    library = parse_study({**study.model_dump(), "report": {"published": "studies/published/cifar10.csv"}})
    assert parameters(library)["report"] == {"published": "studies/published/cifar10.csv"}


def test_what_counts_of_a_structure_file_is_its_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = {"stage1.0": "G(4)", "stage2.0": "S", "stage3.0": "B(2)"}
    found = []
    for path, changed, classes in (("a.json", {}, 10), ("b.json", {}, 2), ("b.json", {"stage1.0": "S"}, 2)):
        to_structure("wrn-10-1", {**blocks, **changed}, classes).write(tmp_path / path)
        found.append(parameters(study_with({"structure": path}))["layouts"]["students"]["mine"])
    assert found[0] == found[1] != found[2]


def test_a_recipe_of_one_network_changes_the_parameters_of_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arrays = {**tiny.STUDY["data"], "sha256": "0" * 64}
    given = {"model": "torchvision/resnet18", "weights": "torchvision", "seed": 0}

    def found(teacher: dict[str, Any], own: dict[str, Any], **training: Any) -> dict[str, Any]:
        students = {"a": {"block": "G(4)", **own}, "b": {"block": "B(2)"}}
        shared = {**tiny.STUDY["training"], **training}
        study = parse_study(tiny.study(data=arrays, teacher=teacher, students=students, training=shared))
        monkeypatch.setenv(nodes.PARAMS_VARIABLE, str(nodes.resolved_file("tiny")))
        resolve.refresh(study)
        assert study_of_job() == study
        return parameters(study)

    def changes(one: dict[str, Any], other: dict[str, Any], start: str = "") -> set[str]:
        both = [each for each in one.keys() | other.keys() if one.get(each) != other.get(each)]
        inner = {k for k in both if isinstance(one.get(k), dict) and isinstance(other.get(k), dict)}
        below = [changes(one[key], other[key], f"{start}{key}.") for key in inner]
        return {f"{start}{key}" for key in both if key not in inner}.union(*below)

    plain = found(given, {})
    assert found(given, {"training": {"epochs": 2}}) == plain
    shorter = changes(plain, found(given, {"training": {"epochs": 1}}))
    assert shorter == {"students.a.training", "recipes.students.a.epochs"}
    tuned = {**given, "finetune": {"epochs": 1}}
    assert changes(plain, found(tuned, {})) == {"teacher.finetune", "recipes.teacher.epochs"}
    frozen = {**given, "finetune": {"epochs": 1, "freeze": "stem"}}
    assert changes(found(tuned, {}), found(frozen, {})) == {
        "teacher.finetune.freeze",
        "recipes.teacher.freeze",
    }
    longer = changes(
        found(tuned, {"training": {"epochs": 1}}), found(tuned, {"training": {"epochs": 1}}, epochs=3)
    )
    assert longer == {"training.epochs", "recipes.students.b.epochs"}
