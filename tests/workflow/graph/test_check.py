"""What a study's networks must be for its data, said before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import moonshine_workflow
from moonshine.config.study import Study, parse_study
from moonshine.errors import MoonshineError
from moonshine_workflow.graph import check, nodes
from moonshine_workflow.graph.check import check_study
from moonshine_workflow.graph.library import IN_CLONE
from tests.messages import names, naming
from tests.workflow import tiny

STUDIES = Path(__file__).parents[3] / "studies"
PACKAGE = Path(moonshine_workflow.__file__).parent
DENSE: dict[str, Any] = yaml.safe_load((STUDIES / "cityscapes-smoke.yaml").read_text())
KD = {"kd": {"form": "textbook", "temperature": 4.0, "alpha": 0.9}}
CITYSCAPES = {"name": "cityscapes", "root": "here", "validation": 0.0, "split_seed": 0}


def dense(**sections: Any) -> Study:
    return parse_study({**DENSE, **sections})


def images(**sections: Any) -> Study:
    return parse_study(tiny.study(data={**tiny.STUDY["data"], "sha256": "0" * 64}, **sections))


@pytest.mark.parametrize(
    "name", ["cityscapes", "cityscapes-smoke", "camvid-mini", "cifar10-evening", "digits", "imagenet"]
)
def test_shipped_studies_pass(name: str) -> None:
    check_study(parse_study(yaml.safe_load((STUDIES / f"{name}.yaml").read_text())))


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (
            dense(teacher={"network": "wrn-16-1", "seed": 0}),
            ["teacher.network", "wrn-16-1", "data.name", "label", "erfnet", "erfnet-<width>", "erfnet-0.5"],
        ),
        (
            dense(students={"small": {"network": "resnet-18-0.5"}}),
            ["students.small.network", "resnet-18-0.5", "erfnet"],
        ),
        (
            images(teacher={"network": "erfnet-0.25", "seed": 0}),
            ["teacher.network", "erfnet-0.25", "label", "data.name", "wrn-<depth>", "resnet-<depth>"],
        ),
        (
            images(students={"G4": {"block": "G(4)"}, "small": {"network": "erfnet", "block": "G(4)"}}),
            ["students.small.network", "erfnet", "label"],
        ),
    ],
)
def test_networks_label_what_the_data_label(study: Study, said: list[object]) -> None:
    with pytest.raises(MoonshineError, match=naming(*said)):
        check_study(study)


@pytest.mark.parametrize(
    "student", [{"block": "LRE(2)"}, {"mixed": {"budget": "1MB", "blocks": ["G(4)", "TT(4)"]}}]
)
def test_least_squares_need_a_1x1_to_solve(student: dict[str, Any]) -> None:
    warm = {"fit": "least-squares", "batches": 1}
    said = r"^students\.A\.warm_start\.fit: found least-squares, .* (LRE\(2\)|TT\(4\)) ends in none; allowed: steps"
    with pytest.raises(MoonshineError, match=said):
        check_study(images(students={"A": {**student, "warm_start": warm}}))
    check_study(images(students={"A": {**student, "warm_start": {"fit": "steps", "batches": 1, "steps": 1}}}))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"data": {**CITYSCAPES, "size": [500, 1000]}},
            ["data.size", "[500, 1000]", "erfnet-0.25", "8", "[504, 1000]"],
        ),
        (
            {"data": {**DENSE["data"], "size": 20}},
            ["data.size", "20", "erfnet-0.25", "8", "24"],
        ),
        (
            {"augment": {"crop_padding": 0, "flip": True, "crop": [20, 16]}},
            ["augment.crop", "[20, 16]", "[24, 16]"],
        ),
        (
            {
                "data": {**DENSE["data"], "size": 36},
                "teacher": {"model": "tests.moonshine.odd_networks:Dense", "seed": 0},
                "students": {"small": {"network": "erfnet-0.5"}},
            },
            ["data.size", "36", "erfnet-0.5", "8"],
        ),
    ],
)
def test_networks_take_the_sizes_that_are_stated(sections: dict[str, Any], said: list[object]) -> None:
    with pytest.raises(MoonshineError, match=naming(*said)):
        check_study(dense(**sections))


def test_sizes_that_only_the_data_know_and_those_of_anybodys_model_are_left_to_the_structure() -> None:
    folder = {
        "name": "segmentation_folder",
        "root": "here",
        "sha256": "0" * 64,
        "classes": ["a", "b"],
        "void": 255,
        "size": None,
        "validation": 0.0,
        "split_seed": 0,
    }
    check_study(dense(data=folder))
    model = {"model": "tests.moonshine.odd_networks:Dense", "seed": 0}
    check_study(dense(data={**DENSE["data"], "size": 20}, teacher=model))


@pytest.mark.parametrize(
    ("teacher", "scale", "said"),
    [
        (
            {"model": "torchvision/vgg11_bn", "seed": 0},
            "width",
            ["students.rival", "torchvision/vgg11_bn", "no family", "torchvision"],
        ),
        (
            {"network": "wrn-10-1", "seed": 0},
            "depth",
            ["students.rival", "wrn-10-1", "smaller in depth"],
        ),
    ],
)
def test_a_rival_of_a_teacher_that_has_none_is_refused_before_anything_runs(
    teacher: dict[str, Any], scale: str, said: list[object]
) -> None:
    rival = {"rival": {"scale": scale, "budget": "1MB"}}
    with pytest.raises(MoonshineError, match=naming(*said)):
        check_study(images(teacher=teacher, students={"rival": rival}))


def test_published_errors_are_a_file_of_the_users_or_of_the_librarys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / IN_CLONE).mkdir(parents=True)
    folder = tmp_path / "studies" / "published"
    folder.mkdir(parents=True)
    for path in (folder / "mine.csv", tmp_path / "mine.csv"):
        path.touch()
    for found in ("studies/published/mine.csv", "mine.csv"):
        check_study(images(report={"published": found}))
    for found in ("absent.csv", "studies/published/absent.csv", "studies"):
        with pytest.raises(
            MoonshineError,
            match=naming("report.published", found, "null", "CSV", "studies/published"),
        ):
            check_study(images(report={"published": found}))


def test_a_model_in_the_folder_of_the_study_is_found_by_a_console_script_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    study = images(teacher={"model": "checked_nets:build", "seed": 0})
    with pytest.raises(MoonshineError, match=naming("teacher.model", "checked_nets")):
        check_study(study)
    (tmp_path / "checked_nets.py").touch()
    check_study(study)


def test_the_longest_names_make_names_of_files() -> None:
    """With what a file is called while it is written."""
    longest = "n" * 64
    study = images(
        study=longest, students={longest: {"block": "G(4)"}}, methods={longest: KD}, seeds=[2**63 - 1]
    )
    names = [path.name for node in nodes.all_nodes(study) for path in (node.log, node.timings, node.work)]
    assert max(len(f".{name}.{2**22}.part") for name in names) < 255


def test_a_clone_does_not_run_the_code_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_study(tmp_path)
    assert check.main() == 0
    here = tmp_path / "workflow" / "moonshine_workflow"
    here.mkdir(parents=True)
    assert check.main() == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert names(said, PACKAGE, here)
    monkeypatch.chdir(PACKAGE.parents[1])
    check.check_package()
