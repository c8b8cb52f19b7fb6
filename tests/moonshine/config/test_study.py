"""The schema of params.yaml: each mistake is answered with the key, the value and what is allowed."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from moonshine import MoonshineError
from moonshine.blocks.registry import PAPER
from moonshine.config.study import load_study, parse_study
from tests.messages import naming

STUDIES = sorted((Path(__file__).parents[3] / "studies").glob("*.yaml"))
DIGITS = yaml.safe_load((Path(__file__).parents[3] / "studies" / "digits.yaml").read_text())
MISSING = object()
MAPS = {"name": "generated", "kind": "maps", "classes": 3, "size": 16, "train": 8, "test": 4, "seed": 0,
        "validation": 0.0, "split_seed": 0}  # fmt: skip
DKD = {"temperature": 4.0, "alpha": 1.0, "beta": 8.0, "warmup": 0}
ERASING = {"probability": 0.5, "scale": [0.1, 0.3], "ratio": [0.5, 2.0]}
RESIZED_CROP = {"scale": [0.08, 1.0], "ratio": [0.75, 1.3333]}


def changed(path: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(DIGITS)
    here = content
    *parents, last = path.split("/")
    for key in parents:
        here = here[key]
    if value is MISSING:
        del here[last]
    else:
        here[last] = value
    return content


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_is_valid_and_named_as_its_file(path: Path) -> None:
    assert load_study(path).study == path.stem


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_papers_studies_have_its_blocks(name: str) -> None:
    (study,) = [load_study(path) for path in STUDIES if path.stem == name]
    assert {student.block for student in study.students.values() if student.block} == set(PAPER)


def test_params_yaml_is_a_shipped_study() -> None:
    params = Path(__file__).parents[3] / "params.yaml"
    assert params.read_bytes() in [path.read_bytes() for path in STUDIES]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("trainin", 1, ["trainin", "unknown", "training"]),
        ("training/epoch", 3, ["training.epoch", "unknown", "batch_size"]),
        ("students/GN/training", {"lr": 0.1}, ["students.GN.training.lr", "unknown", "epochs", "optimizer"]),
        ("students/GN/training", {"epochs": 0}, ["students.GN.training.epochs", "0", "1"]),
        ("students/GN/training", {"precision": "bf16"}, ["students.GN.training.precision", "bf16", "fp32"]),
        (
            "students/GN/training",
            {"schedule": {"kind": "step", "drops": [9], "factor": 0.2}},
            ["students.GN.training", "[9]", "epochs"],
        ),
        ("teacher/training", {"class_weights": {"log_offset": 1.1}}, ["teacher.training.class_weights"]),
        ("students/GN/kwargs", {"width": 4}, ["students.GN.kwargs", "wrn-16-1", "third-party"]),
        ("teacher/finetune", {"epochs": 1}, ["teacher", "finetune", "weights", "training"]),
        ("teacher/head", "replace", ["teacher", "head", "weights"]),
        ("students/GN/blok", "G(4)", ["students.GN.blok", "unknown", "network, block"]),
        ("data/sized", 3, ["data.sized", "unknown", "size, test"]),
        ("training/epochs", -1, ["training.epochs", "-1", "1"]),
        (
            "training/devices",
            3,
            ["devices", "3", "batch_size 32", "1, 2, 4"],
        ),
        (
            "training/optimizer/kind",
            "lion",
            ["training.optimizer", "lion", "sgd", "adam", "adamw"],
        ),
        ("training/optimizer", {"kind": "adam", "lr": 0.1}, ["training.optimizer.betas", "missing"]),
        ("training/optimizer", {"kind": "adamw", "lr": 0.1}, ["training.optimizer.betas", "missing"]),
        ("training/clip_norm", 0, ["training.clip_norm", "0", "greater than 0"]),
        (
            "training/class_weights",
            {"log_offset": 1.1},
            ["training.class_weights", "label maps"],
        ),
        ("training/label_smoothing", 1.0, ["training.label_smoothing", "1.0", "less than 1"]),
        ("training/label_smoothing", -0.1, ["training.label_smoothing", "-0.1", "0"]),
        ("augment/trivial_augment", 1, ["augment.trivial_augment", "1"]),
        ("augment/mixup", 0.0, ["augment.mixup", "0.0", "greater than 0"]),
        ("augment/cutmix", -1.0, ["augment.cutmix", "-1.0", "greater than 0"]),
        ("augment/cutout", 0, ["augment.cutout", "0", "1"]),
        ("augment/cutout", 17, ["augment.cutout", "17", "16"]),
        ("augment/erasing", {"probability": 0.5}, ["augment.erasing.scale", "missing"]),
        (
            "augment/erasing",
            {"probability": 0.5, "scale": [0.3, 0.1], "ratio": [1.0, 1.0]},
            ["augment.erasing", "scale", "[0.3, 0.1]", "[least, most]"],
        ),
        (
            "augment/erasing",
            {"probability": 1.5, "scale": [0.1, 0.3], "ratio": [1.0, 1.0]},
            ["augment.erasing.probability", "1.5", "1"],
        ),
        ("training/ema", 1.0, ["training.ema", "1.0", "less than 1"]),
        ("training/ema", 0.0, ["training.ema", "0.0", "greater than 0"]),
        ("training/ema", -0.5, ["training.ema", "-0.5", "greater than 0"]),
        ("augment/crop", [8, 8], ["augment.crop", "label maps"]),
        ("training/epochs", "12", ["training.epochs", "12", "integer"]),
        ("training/optimizer/lr", "1e-3", ["training.optimizer.lr", "1e-3", "0.001"]),
        ("training/epochs", MISSING, ["training.epochs", "missing"]),
        ("training/schedule/kind", "cosine", ["training.schedule", "cosine", "step", "one-cycle"]),
        ("training/schedule", {"kind": "step", "drops": [60, 3], "factor": 0.2}, ["ascending", "[60, 3]"]),
        ("training/schedule", {"kind": "step", "drops": [60], "factor": 0.2}, ["[60]", "epochs"]),
        ("students", {}, ["students", "{}"]),
        ("students/G.4", {"block": "G(4)"}, ["G.4", "dots"]),
        ("students/-G4", {"block": "G(4)"}, ["-G4", "start"]),
        ("methods/--help", {"at": {}}, ["--help", "start"]),
        ("study", "-a", ["study", "-a"]),
        ("students/GN", {}, ["students.GN", "block", "network"]),
        ("students/scratch", {"block": "G(4)"}, ["students.scratch", "reserved"]),
        ("methods/at/at/form", "strong", ["methods.at.at.form", "strong", "resolution-free"]),
        ("methods/at/at/map", "median", ["methods.at.at.map", "median", "mean", "sum", "max"]),
        ("methods/at/at/p", 0, ["methods.at.at.p", "0", "greater", "1"]),
        ("methods/at/at/p", -2.0, ["methods.at.at.p", "-2.0", "greater", "1"]),
        ("methods/none", {}, ["methods.none", "kd", "logits", "dkd", "dist", "at", "gradient_at", "hints"]),
        (
            "methods/at/kd",
            {"form": "textbook", "temperature": 0, "alpha": 0.9},
            ["methods.at.kd.temperature", 0],
        ),
        (
            "methods/at/dkd",
            {"temperature": 0.0, "alpha": 1.0, "beta": 8.0, "warmup": 0},
            ["methods.at.dkd.temperature", "0.0", "greater"],
        ),
        (
            "methods/at/dist",
            {"temperature": -1.0, "beta": 1.0, "gamma": 1.0},
            ["methods.at.dist.temperature", "-1.0", "greater"],
        ),
        ("methods/at/logits", {"weight": 1.0}, ["methods.at.logits.labels", "missing"]),
        ("methods/at/logits", {"weight": 0.0, "labels": 2.0}, ["methods.at.logits.labels", "2.0", "1"]),
        (
            "methods/at/hints",
            {"hint": "stage2", "guided": "stage2", "epochs": 60, "weight": 1.0},
            ["methods.at.hints", "60", "5", "training.epochs"],
        ),
        ("data/name", "mnist", ["data", "mnist", "cifar10"]),
        ("data/size", 4, ["data.size", "4", "8"]),
        ("seeds", [0, 0], ["seeds", "twice"]),
        ("seeds", [0, "a"], ["seeds.1", "a"]),
        ("study", "a.b", ["study", "a.b"]),
        ("runtime/device", "tpu", ["runtime.device", "tpu", "auto"]),
        ("runtime/workers", -1, ["runtime.workers", "-1"]),
        ("runtime/workers", 257, ["runtime.workers", "257", "256"]),
        ("runtime/teacher_store", "20 parsecs", ["runtime.teacher_store", "20 parsecs", "20GB"]),
        ("runtime/teacher_store", 20, ["runtime.teacher_store", 20]),
        ("runtime/teacher_store", "-1GB", ["runtime.teacher_store", "-1GB", "20GB"]),
        ("runtime/threads", 10**30, ["runtime.threads", 10**30, "1024"]),
        ("runtime/device", "cuda:999", ["runtime.device", "cuda:999"]),
        (
            "seeds",
            [2**64],
            ["seeds.0", "18446744073709551616", "9223372036854775807"],
        ),
        ("data/split_seed", 2**63, ["data.split_seed", "9223372036854775808"]),
        ("data/size", 10**30, ["data.size", 10**30, "16384"]),
        ("training/epochs", 10**30, ["training.epochs", 10**30, "10000000"]),
        ("training/batch_size", 10**9, ["training.batch_size", "1000000000", "1000000"]),
        ("training/optimizer/lr", 1e300, ["training.optimizer.lr", "1e+300", "1000000"]),
        ("training/optimizer/weight_decay", 1e300, ["training.optimizer.weight_decay", "1e+300"]),
        ("methods/at/at/beta", 1e300, ["methods.at.at.beta", "1e+300", "1000000000"]),
        ("augment/crop_padding", 10**30, ["augment.crop_padding", 10**30, "1024"]),
        ("study", "s" * 65, ["study", "s" * 65, "64"]),
        (f"students/{'s' * 65}", {"block": "G(4)"}, ["students", "s" * 65, "64"]),
        ("students/GN/block", f"G({'9' * 5000})", ["students.GN.block", "'G(", "255"]),
        (
            "report/published",
            f"studies/published/{'a' * 256}",
            ["report.published", "file system"],
        ),
        ("report/published", "a\0b", ["report.published", "a\\x00b"]),
        ("ship", {"budget": "9" * 5000}, ["ship.budget", "'", "255"]),
        ("teacher/kwargs", {"a": float("nan")}, ["kwargs", "not finite"]),
        ("teacher/kwargs", {"a": datetime.date(2026, 1, 1)}, ["teacher.kwargs.a", "datetime.date"]),
        ("augment/flip", "no", ["augment.flip", "no"]),
        ("augment/resized_crop", {"scale": [0.1, 1.0]}, ["augment.resized_crop.ratio", "missing"]),
        (
            "augment/resized_crop",
            {"scale": [1.0, 0.1], "ratio": [0.75, 1.3333]},
            ["augment.resized_crop", "scale", "[1.0, 0.1]", "[least, most]"],
        ),
        ("augment/resized_crop", RESIZED_CROP, ["augment.resized_crop", "data.name", "digits"]),
    ],
)
def test_a_mistake_names_the_key_the_value_and_what_is_allowed(
    path: str, value: Any, said: list[object]
) -> None:
    with pytest.raises(MoonshineError, match=naming(*said)) as error:
        parse_study(changed(path, value))

    assert len(str(error.value)) < 2000


MODEL = "torchvision/resnet18"
RIVAL = {"rival": {"scale": "width", "budget": "1MB"}}


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ({}, ["network", "model", "torchvision/resnet18"]),
        ({"network": "wrn-16-1", "model": MODEL}, ["network", "model"]),
        ({"model": "resnet18"}, ["model", "resnet18", "torchvision/<name>"]),
        ({"network": MODEL}, ["network", "model", MODEL]),
        ({"network": "wrn-16-1", "kwargs": {"a": 1}}, ["kwargs", "model", "network", "wrn-16-1"]),
        ({"network": "wrn-16-1", "include": ["stage1"]}, ["include", "model"]),
        ({"network": "wrn-16-1", "exclude": ["stage1"]}, ["exclude", "model"]),
        (
            {"model": MODEL, "weights": "a.safetensors"},
            ["weights", "weights_sha256", "moonshine checksum"],
        ),
        ({"model": MODEL, "weights_sha256": "a" * 64}, ["weights", "weights_sha256"]),
        (
            {"model": MODEL, "weights": "a", "weights_sha256": "A" * 64},
            ["teacher.weights_sha256", "A" * 64],
        ),
        (
            {"model": MODEL, "weights": "a", "weights_sha256": "a" * 63},
            ["teacher.weights_sha256", "a" * 63],
        ),
        (
            {"network": "wrn-16-1", "weights": "torchvision"},
            ["weights", "wrn-16-1", "torchvision/<name>"],
        ),
        ({"model": "nets:build", "weights": "torchvision"}, ["weights", "nets:build"]),
        (
            {"model": MODEL, "weights": "torchvision", "weights_sha256": "a" * 64},
            ["weights_sha256", "leave it out"],
        ),
        ({"model": MODEL, "weights_prefix": "model."}, ["weights_prefix", "a file of weights"]),
        ({"model": MODEL, "taps": "layer1"}, ["teacher.taps", "layer1", "list"]),
        ({"model": MODEL, "include": "layer1"}, ["teacher.include", "layer1", "list"]),
        ({"model": MODEL, "tap": []}, ["teacher.tap", "unknown", "taps"]),
        ({"model": 18}, ["teacher.model", "18"]),
    ],
)
def test_a_teacher_that_is_not_one_network(teacher: dict[str, Any], said: list[object]) -> None:
    with pytest.raises(MoonshineError, match=naming("teacher", *said)):
        parse_study(changed("teacher", {**teacher, "seed": 0}))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("runtime/compile", True, ["runtime.compile", "true", "false", "methods.at.gradient_at"]),
        ("training/sync_batch_norm", True, ["training.sync_batch_norm", "true", "false"]),
        ("data", MAPS, ["data.name", "generated", "one label per image"]),
    ],
)
def test_what_cannot_be_differentiated_twice(path: str, value: Any, said: list[object]) -> None:
    content = changed(path, value)
    parse_study(content)
    content["methods"]["at"]["gradient_at"] = {"beta": 1.0}
    with pytest.raises(MoonshineError, match=naming(*said)):
        parse_study(content)


@pytest.mark.parametrize("term", [{"gradient_at": {"beta": 1.0}}, {"dkd": DKD}])
@pytest.mark.parametrize("key", ["mixup", "cutmix"])
def test_mixed_images_beside_a_term_that_needs_their_class(term: dict[str, Any], key: str) -> None:
    content = changed(f"augment/{key}", 0.5)
    parse_study(content)
    content["methods"]["at"] |= term
    with pytest.raises(
        MoonshineError, match=naming(f"methods.at.{next(iter(term))}", f"augment.{key}", "0.5")
    ):
        parse_study(content)


@pytest.mark.parametrize(
    ("key", "value"),
    [("trivial_augment", True), ("cutout", 4), ("erasing", ERASING), ("mixup", 0.2), ("cutmix", 1.0)],
)
def test_augmentation_that_label_maps_cannot_have(key: str, value: Any) -> None:
    content = changed("data", MAPS)
    parse_study(content)
    content["augment"][key] = value
    with pytest.raises(MoonshineError, match=naming(f"augment.{key}", "one label per image", "flip")):
        parse_study(content)


PRETRAINED = {"model": MODEL, "weights": "torchvision", "seed": 0}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"head": "replace"}, ["head", "replace", "finetune"]),
        ({"head": "keep", "finetune": {}}, ["teacher.head", "keep", "replace"]),
        ({"training": {"epochs": 1}}, ["training", "weights", "finetune"]),
        ({"finetune": {"freezes": "stem"}}, ["teacher.finetune.freezes", "freeze"]),
        ({"finetune": {"batch_size": 1}}, ["teacher.finetune.batch_size", "1", "2"]),
    ],
)
def test_a_pretrained_teacher_is_trained_on_by_a_recipe_or_not_at_all(
    keys: dict[str, Any], said: list[object]
) -> None:
    with pytest.raises(MoonshineError, match=naming("teacher", *said)):
        parse_study(changed("teacher", {**PRETRAINED, **keys}))


def test_a_recipe_of_its_own_has_what_it_leaves_out_from_the_studys() -> None:
    content = changed("students/GN/training", {"epochs": 3})
    content["teacher"] = {**PRETRAINED, "finetune": {"epochs": 2, "freeze": "stem"}}
    found = parse_study(content)
    rest = {"batch_size", "optimizer", "schedule"}
    for own, epochs in ((found.recipe("GN"), 3), (found.recipe(), 2)):
        assert own.epochs == epochs
        assert own.model_dump(include=rest) == found.training.model_dump(include=rest)
    others = [name for name in found.students if name != "GN"]
    assert others
    assert all(found.recipe(name) == found.training for name in others)


def test_a_recipe_that_says_the_same_as_the_studys_is_none_of_its_own() -> None:
    training = changed("training/clip_norm", 2.0)["training"]
    for same in ({}, {"epochs": training["epochs"]}, {"label_smoothing": 0.0}):
        content = changed("training/clip_norm", 2.0)
        content["students"]["GN"]["training"] = same
        assert parse_study(content) == parse_study({**content, "students": changed("study", "a")["students"]})
    content["students"]["GN"]["training"] = {"clip_norm": None}
    assert parse_study(content).recipe("GN").clip_norm is None


def test_a_teacher_with_the_weights_that_torchvision_publishes() -> None:
    study = parse_study(changed("teacher", {"model": MODEL, "weights": "torchvision", "seed": 0}))
    assert study.teacher.weights == "torchvision"


def test_a_teacher_of_the_users_own() -> None:
    given = {"model": "nets:build", "kwargs": {"width": 8}, "weights": "a.pt", "weights_sha256": "0" * 64}
    patterns = {"include": ["layer1.*"], "exclude": ["type:Stem"], "taps": ["layer1"]}
    study = parse_study(changed("teacher", {**given, **patterns, "seed": 0}))
    assert study.teacher.name == study.network_of("GN") == "nets:build"
    assert study.teacher.kwargs == {"width": 8}


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ({}, ["block", "network", "mixed", "rival"]),
        ({"block": "G(4)", "mixed": {"budget": "1MB"}}, ["block", "mixed"]),
        ({"network": "wrn-10-1", **RIVAL}, ["block", "rival"]),
        ({"mixed": {"budget": "1MB"}, **RIVAL}, ["block"]),
        ({"warm_start": {"fit": "least-squares", "batches": 1}}, ["block"]),
        ({"mixed": {}}, ["students.mix.mixed.budget", "missing"]),
        ({"mixed": {"budget": "soon"}}, ["mixed", "budget", "soon", "300k params"]),
        ({"mixed": {"budget": "0MB"}}, ["students.mix.mixed", "budget", "0MB"]),
        ({"mixed": {"budget": "-1MB"}}, ["students.mix.mixed", "budget", "-1MB"]),
        ({"mixed": {"budget": 15}}, ["students.mix.mixed.budget", "15"]),
        ({"mixed": {"budget": []}}, ["mixed", "budget", "none"]),
        ({"mixed": {"budget": ["1MB", "900kB"]}}, ["students.mix.mixed", "budget", "1MB", "900kB"]),
        ({"mixed": {"budget": "1MB", "score": "best"}}, ["students.mix.mixed.score", "best", "fisher"]),
        ({"mixed": {"budget": "1MB", "window": 0}}, ["students.mix.mixed.window", "0"]),
        ({"mixed": {"budget": "1MB", "candidates": 0}}, ["students.mix.mixed.candidates", "0"]),
        (
            {"mixed": {"budget": "1MB", "finalists": {"count": 2}}},
            ["students.mix.mixed.finalists.epochs", "missing"],
        ),
        (
            {"rival": {"scale": "both", "budget": "1MB"}},
            ["students.mix.rival.scale", "both", "width", "depth"],
        ),
        ({"rival": {"scale": "width", "budget": "1 mb"}}, ["students.mix.rival", "budget", "1 mb"]),
        (
            {"block": "G(4)", "warm_start": {"fit": "steps", "batches": 2}},
            ["students.mix.warm_start", "steps"],
        ),
        (
            {"block": "G(4)", "warm_start": {"fit": "least-squares", "batches": 2, "steps": 3}},
            ["students.mix.warm_start", "steps"],
        ),
    ],
)
def test_a_student_that_is_not_one_thing(student: dict[str, Any], said: list[object]) -> None:
    with pytest.raises(MoonshineError, match=naming("students.mix", *said)):
        parse_study(changed("students/mix", student))


def test_a_mixed_student_and_a_rival_take_several_budgets() -> None:
    study = parse_study(changed("students/mix", {"mixed": {"budget": ["300k params", "15ms"]}}))
    assert study.students["mix"].mixed is not None
    assert parse_study(changed("students/thin", RIVAL)).students["thin"].rival is not None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("budget", "1 mb", ["ship", "budget", "1 mb"]),
        ("budget", ["1MB", "2MB"], ["ship", "budget", "1MB", "2MB"]),
        ("allowed_error_pct", 0, ["ship.allowed_error_pct", "0"]),
        ("calibration_images", 0, ["ship.calibration_images", "0"]),
        ("logit_tolerance", -1, ["ship.logit_tolerance", "-1"]),
        ("budget", MISSING, ["ship.budget", "missing"]),
    ],
)
def test_what_is_wanted_of_the_shipped_student(key: str, value: Any, said: list[object]) -> None:
    ship = {"budget": "1MB", "allowed_error_pct": None, "calibration_images": 8, "logit_tolerance": 0.01}
    assert parse_study(changed("ship", ship)).ship is not None
    ship |= {key: value}
    with pytest.raises(MoonshineError, match=naming(*said)):
        parse_study(changed("ship", {name: each for name, each in ship.items() if each is not MISSING}))


def test_all_mistakes_are_said_at_once() -> None:
    content = changed("training/epochs", -1)
    content["seeds"] = []
    with pytest.raises(MoonshineError) as error:
        parse_study(content)
    assert "training.epochs" in str(error.value)
    assert "seeds" in str(error.value)


def test_a_key_that_stands_twice_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("study: a\nstudy: b\n")
    with pytest.raises(MoonshineError, match=naming("line 2", "study", "twice")):
        load_study(path)


def test_many_mistakes_are_cut_short() -> None:
    with pytest.raises(MoonshineError, match="and 80 more") as error:
        parse_study({**DIGITS, **{f"k{number}": 1 for number in range(100)}})
    assert len(str(error.value)) < 5000


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(MoonshineError, match="no such file"):
        load_study(path)
    path.write_text("study: [a")
    with pytest.raises(MoonshineError, match=naming("params.yaml", "YAML")):
        load_study(path)
    path.write_text("just words")
    with pytest.raises(MoonshineError, match="expected a mapping"):
        load_study(path)


def test_a_student_takes_the_teachers_network_where_it_names_none() -> None:
    study = parse_study(changed("students/small", {"network": "wrn-10-1"}))
    assert [study.network_of(name) for name in ("GN", "small")] == [study.teacher.network, "wrn-10-1"]


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ({"blocks": {}}, ["students.mine.blocks", "{}"]),
        ({"blocks": {10: "S"}}, ["students.mine.blocks", "10", "text"]),
        ({"blocks": {"*": 4}}, ["students.mine.blocks.*", "4", "string"]),
        ({"blocks": [["*", "S"], ["*", "G(4)"]]}, ["students.mine.blocks", "twice"]),
        ({"blocks": ["G(4)"]}, ["students.mine.blocks", "G(4)", "dictionary"]),
        ({"blocks": {"*": "G(4)"}, "block": "S"}, ["students.mine", "block", "blocks", "structure"]),
        ({"structure": "a.json", "network": "wrn-10-1"}, ["students.mine", "structure", "network"]),
        ({"structure": "a.json", "mixed": {"budget": "1MB"}}, ["students.mine", "structure", "mixed"]),
    ],
)
def test_blocks_by_place_are_said_in_one_way(student: dict[str, Any], said: list[object]) -> None:
    with pytest.raises(MoonshineError, match=naming(*said)):
        parse_study(changed("students/mine", student))


def test_a_pattern_that_is_given_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("students:\n  mine:\n    blocks:\n      'stage1.*': S\n      stage1.*: G(4)\n")
    with pytest.raises(MoonshineError, match=naming("params.yaml", "line 5", "stage1.*", "twice")):
        load_study(path)
