"""``moonshine estimate``: its arithmetic, its schedule, what it knows of data, and the command as its users see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moonshine
from moonshine import MoonshineError
from moonshine.config import Study, load_study, parse_study
from moonshine.files import write_json
from tests.workflow import tiny
from workflow import cli, nodes
from workflow.estimating.arithmetic import (
    Load,
    Pace,
    Task,
    kinds,
    longest_chain,
    rows,
    slowed,
    tasks,
    wall_seconds,
)
from workflow.estimating.data import Facts, Given, facts_of
from workflow.estimating.throughput import Measured, Throughput, write
from workflow.estimating.works import EVALUATION, cases
from workflow.layouts import Images, uniform

TINY = Given(train=50, test=20, shape=(1, 8, 8), classes=2)
SIZE = ("--images", "50", "--test-images", "20", "--input", "1x8x8", "--classes", "2")
SECONDS = {"ce": 0.5, "kd": 0.75, "at": 1.0, EVALUATION: 0.25}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("workflow.estimating.timing.LEAST_SECONDS", 1e-9)
    monkeypatch.chdir(tmp_path)


def a_study(**sections: Any) -> Study:
    content = tiny.study(**sections)
    if content["data"]["name"] == "arrays":
        content["data"]["sha256"] = "0" * 64
    return parse_study(content)


def measured(study: Study, path: Path) -> Path:
    """A file of invented measurements: seconds per image depend on the loss alone."""
    works = {case.work for both in cases(study, facts_of(study, TINY)).values() for case in both}
    found = [Measured(work=work, seconds_per_image=SECONDS[work.loss], peak_bytes=None) for work in works]
    how: dict[str, Any] = {
        "device": "a device",
        "dtype": "float32",
        "threads": 1,
        "channels_last": True,
        "compile": False,
        "torch": "2.15.0",
        "batches": 4,
        "batch_size": 16,
    }
    write(path, Throughput(**how, measurements=found))
    return path


def estimate(*arguments: str) -> int:
    return cli.main(["estimate", *arguments])


# arithmetic


def test_a_node_takes_its_epochs_and_its_test() -> None:
    load = Load(train=40, validation=10, test=20, epochs=3, batch_size=16)
    assert (load.steps, load.images) == (9, 120)
    # 3 x (40 x 0.5 + 10 x 0.25) + 20 x 0.25
    assert load.seconds(Pace(0.5, 0.25)) == 72.5


def test_a_teacher_with_weights_is_only_evaluated() -> None:
    assert Load(40, 10, 20, 3, 16).seconds(Pace(None, 0.25)) == 7.5


def test_a_teacher_with_weights_has_no_training_to_time() -> None:
    weights = {"weights": "teacher.safetensors", "weights_sha256": "0" * 64}
    study = a_study(teacher={"network": "wrn-10-1", "seed": 0, **weights})
    found = cases(study, facts_of(study, TINY))
    assert [case.work.loss for case in found["teacher", "teacher"]] == [EVALUATION]
    assert [case.work.loss for case in found["G4", "at"]] == [EVALUATION, "at"]


def test_rows_are_all_nodes_of_the_study() -> None:
    study = a_study(seeds=[0, 1, 2])
    load = Load(40, 10, 20, 2, 16)
    found = rows(study, load, {kind: Pace(0.5, 0.25) for kind in kinds(study)})
    assert [(row.student, row.kind, row.networks) for row in found] == [
        ("teacher", "teacher", 1),
        *((student, kind, 3) for student in ("G4", "BG2-M") for kind in ("scratch", "kd", "at")),
    ]
    assert len(tasks(study, found)) == sum(row.networks for row in found) == len(nodes.trained(study))


def test_what_is_distilled_waits_for_the_teacher() -> None:
    study = a_study()
    found = tasks(study, rows(study, Load(40, 10, 20, 2, 16), dict.fromkeys(kinds(study), Pace(0.5, 0.25))))
    assert {task.name: task.after for task in found if task.after} == {
        f"distil@tiny-{student}-{method}-0": ("teacher@tiny",)
        for student in ("G4", "BG2-M")
        for method in ("kd", "at")
    }


def test_slow_loading_holds_up_what_is_faster() -> None:
    paces = {("teacher", "teacher"): Pace(None, 0.25), ("G4", "scratch"): Pace(1.0, 0.25)}
    assert slowed(paces, 2.0) == {
        ("teacher", "teacher"): Pace(None, 0.5),
        ("G4", "scratch"): Pace(1.0, 0.5),
    }
    assert slowed(paces, None) == paces


# the schedule


def test_the_longest_chain_begins_first() -> None:
    teacher = Task("teacher", 3)
    distilled = [Task("long", 4, ("teacher",)), Task("short", 1, ("teacher",))]
    work = [teacher, Task("scratch", 5), *distilled]
    assert [task.name for task in longest_chain(work)] == ["teacher", "long"]
    # one device after the other; two: teacher then long beside scratch then short, which ends at 6; the chain is 7
    assert [wall_seconds(work, devices) for devices in (1, 2, 3, 8)] == [13, 7, 7, 7]


def test_a_device_waits_where_everything_waits_for_the_teacher() -> None:
    work = [Task("teacher", 10), Task("a", 2, ("teacher",)), Task("b", 2, ("teacher",)), Task("scratch", 1)]
    assert [wall_seconds(work, devices) for devices in (1, 2, 3)] == [15, 12, 12]


def test_no_work_takes_no_time() -> None:
    assert wall_seconds([], 2) == 0
    assert longest_chain([]) == []


@st.composite
def graphs(draw: st.DrawFn) -> list[Task]:
    """Any tasks, each after some of those before it; whole seconds, so that sums are exact."""
    durations = draw(st.lists(st.integers(0, 50), min_size=1, max_size=12))
    found: list[Task] = []
    for position, seconds in enumerate(durations):
        names = [task.name for task in found]
        after = draw(st.sets(st.sampled_from(names), max_size=3)) if names else set()
        found.append(Task(str(position), seconds, tuple(sorted(after))))
    return found


@settings(max_examples=100, deadline=None)
@given(work=graphs(), devices=st.integers(1, 6))
def test_the_time_lies_between_the_bounds_of_every_schedule(work: list[Task], devices: int) -> None:
    total = sum(task.seconds for task in work)
    chain = sum(task.seconds for task in longest_chain(work))
    wall = wall_seconds(work, devices)
    assert max(total / devices, chain) <= wall <= total
    # Graham's bound, in whole numbers
    assert devices * wall <= total + (devices - 1) * chain
    assert wall_seconds(work, 1) == total
    assert wall_seconds(work, len(work)) == chain


# what is known of the data


DIGITS = {"name": "digits", "size": 16, "validation": 0.25, "test": 0.4, "split_seed": 0}
CIFAR = {"name": "cifar100", "root": "data", "size": 32, "validation": 0.1, "split_seed": 0}
NORMALISATION = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
IMAGENET = {
    "name": "imagenet",
    "root": "i",
    "resize": 256,
    "crop": 224,
    "validation": 0.0,
    "split_seed": 0,
    "normalisation": NORMALISATION,
}
CITYSCAPES = {"name": "cityscapes", "root": "c", "size": [512, 1024], "validation": 0.0, "split_seed": 0}
SCENES = {
    "name": "generated",
    "kind": "maps",
    "classes": 4,
    "size": 32,
    "train": 20,
    "test": 6,
    "seed": 0,
    "validation": 0.25,
    "split_seed": 0,
}
RESIZED = {
    "crop_padding": 0,
    "flip": True,
    "resized_crop": {"scale": [0.1, 1.0], "ratio": [0.75, 1.33]},
}


@pytest.mark.parametrize(
    ("data", "augment", "expected"),
    [
        (DIGITS, tiny.STUDY["augment"], Facts(808, 270, 719, (1, 16, 16), 10, "known of digits")),
        (CIFAR, tiny.STUDY["augment"], Facts(45_000, 5_000, 10_000, (3, 32, 32), 100, "known of cifar100")),
        (IMAGENET, RESIZED, Facts(1_281_167, 0, 50_000, (3, 224, 224), 1000, "known of imagenet")),
        (SCENES, tiny.STUDY["augment"], Facts(15, 5, 6, (3, 32, 64), 4, "known of generated")),
        (
            CITYSCAPES,
            tiny.STUDY["augment"],
            Facts(2_975, 0, 500, (3, 512, 1024), 20, "known of cityscapes"),
        ),
    ],
)
def test_public_data_are_known_before_they_are_there(
    data: dict[str, Any], augment: dict[str, Any], expected: Facts
) -> None:
    assert facts_of(a_study(data=data, augment=augment), Given()) == expected


def test_prepared_data_are_counted_and_given_numbers_come_first() -> None:
    study = a_study()
    node = nodes.fetch("tiny")
    counts = {"train": 40, "validation": 10, "test": 20}
    about = {"counts": counts, "channels": 1, "height": 8, "width": 8, "num_classes": 2}
    write_json(node.folder / "dataset.json", about)
    (node.folder / "data.safetensors").touch()
    assert facts_of(study, Given()) == Facts(40, 10, 20, (1, 8, 8), 2, "prepared")
    assert facts_of(study, Given(train=1000)) == Facts(
        800, 200, 20, (1, 8, 8), 2, "prepared, changed as given"
    )


def test_data_of_ones_own_need_numbers() -> None:
    with pytest.raises(MoonshineError, match="arrays is not known before it is prepared") as error:
        facts_of(a_study(), Given(train=50))
    assert "--test-images, --input, --classes," in str(error.value)


# the networks


def test_every_network_and_loss_is_timed_once() -> None:
    methods = {
        name: {"at": {"form": form, "beta": 10.0}} for name, form in (("a", "paper"), ("b", "released"))
    }
    study = a_study(
        students={"G4": {"block": "G(4)"}, "again": {"block": "G-4"}, "narrow": {"network": "wrn-10-0.5"}},
        methods=methods,
    )
    works = {case.work for both in cases(study, facts_of(study, TINY)).values() for case in both}
    assert sorted((work.network, work.loss) for work in works) == [
        ("wrn-10-0.5", "at"),
        ("wrn-10-0.5", "ce"),
        ("wrn-10-0.5", "evaluation"),
        ("wrn-10-1", "ce"),
        ("wrn-10-1", "evaluation"),
        ("wrn-10-1 with G(4)", "at"),
        ("wrn-10-1 with G(4)", "ce"),
        ("wrn-10-1 with G(4)", "evaluation"),
    ]


def test_a_mixed_student_is_known_once_it_was_searched_for() -> None:
    study = a_study(students={"mix": {"mixed": {"budget": "60k params"}}})
    facts = facts_of(study, TINY)
    with pytest.raises(MoonshineError, match=r"students\.mix\.mixed: .*snakemake results/tiny/students/mix/"):
        cases(study, facts)
    mixed = study.students["mix"].mixed
    assert mixed
    structure = {
        "network": "wrn-10-1",
        "num_classes": 2,
        "in_channels": 1,
        "blocks": {"stage1.0": "G(4)", "stage2.0": "S", "stage3.0": "B(2)"},
        "block": "mixed",
        "search": {"settings": mixed.model_dump(mode="json")},
    }
    write_json(nodes.structure("tiny", "mix").outputs[0], structure)
    training = cases(study, facts)["mix", "scratch"].training
    assert training
    assert training.work.network == "wrn-10-1 with mixed"


def test_a_rival_needs_no_data() -> None:
    rival = {"rival": {"scale": "depth", "budget": "100k params"}}
    study = a_study(teacher={"network": "wrn-16-1", "seed": 0}, students={"rival": rival})
    found = cases(study, facts_of(study, TINY))["rival", "scratch"].evaluation.work.network
    assert found == "wrn-10-1"


NETS = """
from torch import nn


def build():
    convolutions = [nn.Conv2d(1, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1)]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
"""


def test_students_of_a_model_are_those_of_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "estimated_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    teacher = {"model": "estimated_nets:build", "exclude": ["4"], "seed": 0}
    study = a_study(teacher=teacher)
    found = cases(study, facts_of(study, TINY))
    images = Images((1, 8, 8), 2, {})
    for name in study.students:
        expected = uniform(study, study.network_of(name), study.block_of(name), images)
        assert found[name, "scratch"].evaluation.structure == expected


# the command


def test_an_estimate_from_measurements_made_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    path = measured(load_study(), tmp_path / "there.json")
    assert estimate("--throughput", str(path), *SIZE, "--devices", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    # epochs x (training images x training + validation images x evaluation) + test images x evaluation
    each = {kind: 2 * (40 * SECONDS[loss] + 10 * 0.25) + 20 * 0.25 for kind, loss in
            (("teacher", "ce"), ("scratch", "ce"), ("kd", "kd"), ("at", "at"))}  # fmt: skip
    assert {row["trained_by"]: row["seconds_each"] for row in found["rows"]} == each
    total = each["teacher"] + 2 * (each["scratch"] + each["kd"] + each["at"])
    assert found["device_seconds"] == total
    assert found["each_network"] == {"epochs": 2, "batch_size": 16, "steps": 6, "images": 80}
    # teacher and scratch beside each other, then at and at, kd and kd; scratch fills the gap that never is
    assert found["wall_seconds"] == {"1": total, "2": total / 2 + each["scratch"] / 2}
    assert found["longest_chain"]["nodes"] == ["teacher@tiny", "distil@tiny-G4-at-0"]


def test_the_text_shows_its_arithmetic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_study(tmp_path)
    path = measured(load_study(), tmp_path / "there.json")
    assert estimate("--throughput", str(path), *SIZE) == 0
    text = capsys.readouterr().out
    assert "tiny: 40 training images, 10 for validation, 20 for testing, 1x8x8 (as given)" in text
    assert "Measured on a device, 1 thread, float32" in text
    assert "BG2-M at: 2 x (40 / 1.00 + 10 / 4.00) + 20 / 4.00 = 90.0 seconds" in text
    table = [line.split() for line in text.splitlines()]
    assert ["G4", "scratch", "2.00", "4.00", "50.0", "1", "50.0"] in table
    assert ["at", "1.00", "4.00", "90.0", "1", "90.0", "210.0"] in table
    assert ["in", "all", "7", "470.0", "470.0"] in table
    assert "8 devices, a node on each, longest first: 140.0 seconds" in text


def test_a_rate_may_be_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two operations to a multiply-accumulate, three forward passes of what trains and one of its teacher."""
    tiny.write_study(tmp_path)
    assert estimate("--tflops", "1e-6", *SIZE, "--json") == 0  # a million operations a second
    found = {(row["student"], row["trained_by"]): row for row in json.loads(capsys.readouterr().out)["rows"]}
    study = load_study()
    teacher, student = (
        2
        * moonshine.cost(
            moonshine.build(study.teacher.name, block, num_classes=2, in_channels=1), (1, 8, 8)
        ).macs
        for block in ("S", "G(4)")
    )
    rates = [1e6 / found["G4", kind]["images_per_second"] for kind in ("scratch", "at")]
    assert rates == pytest.approx([3 * student, 3 * student + teacher])
    assert 1e6 / found["teacher", "teacher"]["evaluated_per_second"] == pytest.approx(teacher)
    assert estimate("--tflops", "400", *SIZE) == 0
    assert "Assumed, not measured: 400 x 10^12 operations a second" in capsys.readouterr().out


def test_this_device_is_measured_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_study(tmp_path)
    shown = []
    quick = ("--student", "G4", "--measure-on-batches", "1", "--measure-batch", "4")
    for _ in range(2):
        assert estimate(*quick, *SIZE, "--save", "here.json") == 0
        shown.append(capsys.readouterr())
    assert shown[0].out == shown[1].out
    assert shown[0].err.startswith("Measuring 6 kinds of step on ")
    assert shown[1].err == ""
    assert "not 4 as measured" in shown[0].out
    assert estimate("--student", "G4", "--throughput", "here.json", *SIZE) == 0
    assert capsys.readouterr().out == shown[0].out


def test_label_maps_are_measured_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {
        "name": "segmentation_folder",
        "root": "streets",
        "sha256": "0" * 64,
        "classes": ["road", "sky"],
        "void": 255,
        "size": [16, 24],
        "validation": 0.0,
        "split_seed": 0,
    }
    recipe = {**tiny.STUDY["training"], "class_weights": {"log_offset": 1.1}}
    content = tiny.study(
        data=data,
        teacher={"network": "erfnet-0.25", "seed": 0},
        students={"G4": {"block": "G(4)"}},
        training=recipe,
        augment={"crop_padding": 2, "flip": True, "crop": [16, 16]},
    )
    tiny.write_study(tmp_path, content)
    size = ("--images", "9", "--test-images", "3")
    assert estimate(*size, "--measure-on-batches", "1", "--measure-batch", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["trained_by"] for row in found["rows"]] == ["teacher", "scratch", "kd", "at"]
    assert all(row["seconds_each"] > 0 for row in found["rows"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "study 'nowhere': no such file; allowed: a file, or one of studies/: small"),
        (["nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--devices", "0"], "--devices is 0; allowed: a whole number from 1"),
        (["--images", "0"], "--images is 0; allowed: a whole number from 1"),
        (["--input", "8x8"], "--input is '8x8'; allowed: channels x height x width"),
        (["--measure-batch", "1"], "--measure-batch is 1; allowed: a whole number from 2"),
        (["--student", "G5"], "--student is G5; allowed: the students of tiny: G4, BG2-M"),
        (["--pictures-per-second", "5"], "are decoded before training"),
        (["--tflops", "0"], "--tflops is 0.0; allowed: a number above 0"),
        (["--throughput", "none.json", *SIZE], "none.json: cannot be read"),
        (["--throughput", "torn.json", *SIZE], "torn.json: the file: found"),
        (["--throughput", "odd.json", *SIZE], "odd.json: threads: found 'many'"),
        ([], "--images, --test-images, --input, --classes"),
    ],
)
def test_a_mistake_is_one_message(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    Path("studies").mkdir()
    Path("studies/small.yaml").touch()
    path = measured(load_study(), tmp_path / "odd.json")
    path.write_text(path.read_text().replace('"threads": 1', '"threads": "many"'))
    Path("torn.json").write_text("{")
    assert estimate(*arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1


def test_a_file_that_lacks_a_network_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    path = measured(a_study(students={"G4": {"block": "G(4)"}}), tmp_path / "there.json")
    assert estimate("--throughput", str(path), *SIZE) == 2
    said = capsys.readouterr().err
    assert "there.json: has no measurement of BG2-M scratch (wrn-10-1 with BG(2,M), ce)" in said
    assert "G4" not in said
    assert estimate("--throughput", str(path), *SIZE, "--student", "G4") == 0
