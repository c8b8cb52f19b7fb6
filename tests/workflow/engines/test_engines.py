"""What each engine runs, and what it leaves alone, on a study that trains in seconds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moonshine.config.study import load_study, parse_study
from moonshine.errors import MoonshineError
from moonshine.files import sha256
from moonshine.structures.build import to_structure
from moonshine_workflow.engines import rules, snakemake_state
from moonshine_workflow.engines.parallel import stages_due
from moonshine_workflow.engines.status import survey, workers
from tests.messages import names, naming
from tests.workflow import tiny
from tests.workflow.clones import call, clone, due, edit_code, edit_study, inside, outputs, succeed

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")

DECODED = {
    "name": "generated",
    "classes": 2,
    "size": 32,
    "train": 8,
    "test": 4,
    "seed": 0,
    "validation": 0.0,
    "split_seed": 0,
}
TABLES = {"collect@tiny", "examples@tiny", "export@tiny", "report@tiny"}
SCRATCH = {"scratch@tiny-G4-0", "scratch@tiny-B2-0"}
DISTIL = {"distil@tiny-G4-at-0", "distil@tiny-B2-at-0"}
OWN = {"structure@tiny-B2", "measure@tiny-B2", "scratch@tiny-B2-0", "distil@tiny-B2-at-0"}
ADDED = {"structure@tiny-GN", "measure@tiny-GN", "scratch@tiny-GN-0", "distil@tiny-GN-at-0"}


def add_block(study: dict[str, Any]) -> None:
    study["students"]["GN"] = {"block": "G(N)"}


def remove_block(study: dict[str, Any]) -> None:
    del study["students"]["B2"]


def change_beta(study: dict[str, Any]) -> None:
    study["methods"]["at"]["at"]["beta"] = 10.0


def change_learning_rate(study: dict[str, Any]) -> None:
    study["training"]["optimizer"]["lr"] = 0.01


def say_the_same_otherwise(study: dict[str, Any]) -> None:
    study["training"] = dict(reversed(study["training"].items()))
    study["methods"]["at"]["at"]["beta"] = 1000
    study["runtime"]["threads"] = 2


def write_out_the_defaults(study: dict[str, Any]) -> None:
    study["augment"]["crop"] = study["methods"]["at"]["kd"] = study["students"]["G4"]["warm_start"] = None
    study["teacher"]["kwargs"] = {}
    study["training"]["devices"] = 1


def leave_out_the_defaults(study: dict[str, Any]) -> None:
    del study["report"], study["ship"], study["runtime"]


def change_what_structures_do_not_read(study: dict[str, Any]) -> None:
    study["students"]["G4"]["warm_start"] = {"fit": "least-squares", "batches": 1}


def change_the_teachers_seed(study: dict[str, Any]) -> None:
    study["teacher"]["seed"] = 5


def give_the_teacher_weights(study: dict[str, Any]) -> None:
    study["teacher"] |= {
        "weights": "results/tiny/teacher/weights.safetensors",
        "weights_sha256": "0" * 64,
    }


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (add_block, ADDED | TABLES),
        (remove_block, TABLES),
        (change_beta, DISTIL | TABLES),
        (change_learning_rate, {"teacher@tiny"} | SCRATCH | DISTIL | TABLES),
        (say_the_same_otherwise, set()),
        (write_out_the_defaults, set()),
        (leave_out_the_defaults, set()),
        (change_what_structures_do_not_read, {"distil@tiny-G4-at-0"} | TABLES),
        (change_the_teachers_seed, {"teacher@tiny"} | DISTIL | TABLES),
        (give_the_teacher_weights, {"teacher@tiny"} | DISTIL | TABLES),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_edit_of_the_study_reruns_what_used_it(
    change: Callable[[dict[str, Any]], None], expected: set[str], engine: str, shared: Path
) -> None:
    before = (shared / "params.yaml").read_bytes()
    try:
        edit_study(shared, change)
        assert due(shared, engine) == expected
    finally:
        (shared / "params.yaml").write_bytes(before)


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_an_edit_of_a_structure_file_reruns_its_student_if_its_blocks_change(
    engine: str, shared: Path
) -> None:
    file = shared / "mixtures/G4.json"
    before = file.read_bytes()
    found = []
    try:
        for blocks, classes in (("G(4)", 7), ("G(2)", 2)):
            to_structure("wrn-10-1", blocks, classes).write(file)
            found.append(due(shared, engine))
    finally:
        file.write_bytes(before)
    own = {
        f"{stage}@tiny-G4{rest}" for stage, rest in (("structure", ""), ("measure", ""), ("scratch", "-0"))
    }
    assert found == [set(), own | {"distil@tiny-G4-at-0"} | TABLES]


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_an_edit_of_a_loss_reruns_distillation_alone(engine: str, by_both: Path) -> None:
    edit_code(by_both, "moonshine/distillation/losses/at.py")
    assert due(by_both, engine) == DISTIL | TABLES


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_an_input_with_an_old_date_and_a_deleted_result_are_noticed(engine: str, shared: Path) -> None:
    code = shared / "moonshine/distillation/losses/at.py"
    before, date = code.read_bytes(), shared.stat().st_mtime - 1e6
    weights = shared / "results/tiny/students/B2/scratch/seed0/weights.safetensors"
    lost = weights.rename(shared / "lost")
    try:
        code.write_bytes(before + b"# as cp -p, rsync and tar put it in place\n")
        os.utime(code, (date, date))
        assert due(shared, engine) == {"scratch@tiny-B2-0"} | DISTIL | TABLES
    finally:
        lost.rename(weights)
        code.write_bytes(before)
        os.utime(code, (date, date))
    assert due(shared, engine) == set()


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_an_edit_of_what_a_builder_imports_reruns_what_it_builds(engine: str, by_both: Path) -> None:
    edit_code(by_both, "tiny_blocks.py")
    with inside(by_both):
        states = survey(load_study())
    # a cost leaves nothing that tells what it is of
    assert {one.node.name for one in states if one.state == "outdated"} == OWN - {"measure@tiny-B2"}
    assert due(by_both, engine) == OWN | TABLES
    if engine == "dvc":
        succeed(by_both, "dvc", "repro", "structure")
        found = json.loads((by_both / "results/tiny/students/B2/structure.json").read_text())
        assert found["source_sha256"]["tiny_blocks"] == sha256(by_both / "tiny_blocks.py")
        assert due(by_both, engine) == (OWN - {"structure@tiny-B2"}) | TABLES


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_a_removed_block_leaves_the_tables(engine: str, by_both: Path) -> None:
    edit_study(by_both, remove_block)
    table = by_both / "results/tiny/tables/table.csv"
    assert "B(2)" in table.read_text()
    succeed(
        by_both,
        *(["snakemake", "--until", "collect"] if engine == "snakemake" else ["dvc", "repro", "collect"]),
    )
    assert "B(2)" not in table.read_text()
    assert "G(4)" in table.read_text()
    assert (by_both / "results/tiny/students/B2/scratch/seed0/weights.safetensors").exists()


def test_the_second_run_of_snakemake_does_nothing_and_says_that_data_were_lost(
    run_by_snakemake: Path,
) -> None:
    data = run_by_snakemake / "results/tiny/data/data.safetensors"
    kept = data.rename(run_by_snakemake / "kept")
    try:
        said = succeed(run_by_snakemake, "snakemake")
    finally:
        kept.rename(data)
    assert "Nothing to be done" in said
    assert names(said, "results/tiny/data/data.safetensors", "missing")
    assert "profiles/default" in said


def test_the_second_run_of_dvc_only_reads_the_study(run_by_dvc: Path) -> None:
    said = succeed(run_by_dvc, "dvc", "repro")
    assert [line for line in said.splitlines() if "Running" in line] == ["Running stage 'resolve@tiny':"]
    assert "Updating lock file" not in said


def test_both_engines_leave_the_same_bytes(by_dvc: Path, run_by_snakemake: Path) -> None:
    again = "distil@tiny-G4-at-0"
    assert f"Running stage '{again}'" in succeed(by_dvc, "dvc", "repro", "--force", "--single-item", again)
    ours, theirs = outputs(by_dvc), outputs(run_by_snakemake)
    tables = {path for path in theirs if "/tables/" in path or path.endswith("tiny/metrics.json")}
    assert {path: ours[path] for path in theirs.keys() - tables} == {
        path: theirs[path] for path in theirs.keys() - tables
    }


def test_the_teacher_starts_first(run_by_snakemake: Path) -> None:
    timings = run_by_snakemake / "results/tiny/timings"
    started = {path.stem: json.loads(path.read_text())["started"] for path in timings.iterdir()}
    assert started["teacher@tiny"] <= min(started["scratch@tiny-G4-0"], started["distil@tiny-G4-at-0"])


def test_nodes_share_gpus_only_where_there_may_be_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gpus(device: str, elsewhere: bool = False) -> int:
        content = tiny.study()
        content["data"]["sha256"] = "0" * 64
        content["runtime"]["device"] = device
        return rules.gpus(parse_study(content), elsewhere)

    monkeypatch.setattr(rules, "GPU_DRIVER", tmp_path / "absent")
    assert [gpus("auto"), gpus("cpu"), gpus("cuda")] == [0, 0, 1]
    assert [gpus("auto", True), gpus("cpu", True)] == [1, 0]
    monkeypatch.setattr(rules, "GPU_DRIVER", tmp_path)
    assert [gpus("auto"), gpus("cpu"), gpus("cuda")] == [1, 0, 1]


def test_snakemake_refuses_overrides_that_the_stages_would_not_see(run_by_snakemake: Path) -> None:
    done = call(run_by_snakemake, "snakemake", "--config", "seeds=[0]")
    assert done.returncode != 0
    assert names(done.stderr, "--config", "--configfile", "seeds")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("runtime", "encoded", "cores"),
    [
        ({"threads": 3}, False, 3),
        ({"threads": 3, "workers": 2}, False, 3),
        ({"threads": 3}, True, 6),
        ({"threads": 3, "workers": 0}, True, 3),
    ],
)
def test_a_node_is_given_the_cores_that_it_keeps_busy(
    runtime: dict[str, int], encoded: bool, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tiny.study(data={**DECODED, "kind": "images"})
    if encoded:
        content["data"] |= {"kind": "pictures", "normalisation": {"mean": [0.5] * 3, "std": [0.5] * 3}}
        content["augment"] = {
            "crop_padding": 0,
            "flip": False,
            "resized_crop": {"scale": [0.5, 1.0], "ratio": [1.0, 1.0]},
        }
    content["runtime"] |= runtime
    study = parse_study(content)
    assert rules.cores(study) == cores
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert workers(study) == 12 // cores


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("training", {"epochs": -1}, ["params.yaml", "training.epochs", "-1"]),
        ("students", {"G5": {"block": "G(5)"}}, ["students.G5"]),
    ],
)
def test_snakemake_says_what_is_wrong_with_the_study(
    section: str, values: dict[str, Any], message: list[object], tmp_path: Path
) -> None:
    folder = clone(tmp_path)
    edit_study(folder, lambda study: study[section].update(values))
    with inside(folder), pytest.raises(MoonshineError, match=naming(*message)):
        snakemake_state.jobs()


def test_lint_asks_for_nothing_but_containers(run_by_snakemake: Path) -> None:
    said = call(run_by_snakemake, "snakemake", "--lint").stderr
    found = {line.strip() for line in said.splitlines() if line.startswith("    * ")}
    assert found == {"* Specify a conda environment or container for each rule.:"}


def test_snakemake_report_shows_the_tables_and_the_report(run_by_snakemake: Path) -> None:
    succeed(run_by_snakemake, "snakemake", "--report", "snakemake-report.html")
    text = (run_by_snakemake / "snakemake-report.html").read_text()
    for shown in ("report.html", "table.csv", "runs.csv", "differences.csv", "One row per student"):
        assert shown in text


def test_dvc_shows_metrics_and_plots(by_dvc: Path) -> None:
    shown = json.loads(succeed(by_dvc, "dvc", "metrics", "show", "--json"))
    assert "test_error_pct" in shown[""]["data"]["results/tiny/metrics.json"]["data"]
    succeed(by_dvc, "dvc", "plots", "show", "--out", "plots")
    page = (by_dvc / "plots" / "index.html").read_text()
    assert "Error against parameters" in page
    assert "Training curves" in page
    assert "distil@tiny-B2-at-0" in page


def test_parallel_dvc_runs_what_changed_and_what_follows() -> None:
    graph = {
        "fetch": frozenset[str](),
        "teacher": frozenset({"fetch"}),
        "structure": frozenset({"fetch"}),
        "scratch": frozenset({"fetch", "structure"}),
        "distil": frozenset({"fetch", "structure", "teacher"}),
    }
    assert stages_due(set(), graph) == {}
    assert stages_due({"teacher"}, graph) == {"teacher": frozenset(), "distil": frozenset({"teacher"})}
    assert next(iter(stages_due(set(graph), graph))) == "fetch"


def test_parallel_dvc_stops_at_a_failure(by_dvc: Path) -> None:
    published = "studies/published/damaged.csv"
    (by_dvc / published).write_bytes(b"\xff")
    edit_study(by_dvc, lambda study: study["report"].update(published=published))
    done = call(by_dvc, "moonshine_workflow.engines.parallel", "--jobs", "2")
    assert done.returncode == 1
    assert "collect@tiny: FAILED" in done.stdout
    assert "start report@tiny" not in done.stdout
    assert "damaged.csv" in done.stderr


def test_parallel_dvc_starts_nothing_before_the_study_is_checked(by_dvc: Path) -> None:
    edit_study(by_dvc, lambda study: study.update(study="../../x"))
    done = call(by_dvc, "moonshine_workflow.engines.parallel", "--jobs", "2")
    assert done.returncode == 2
    assert "start" not in done.stdout
    assert "study: found '../../x'" in done.stderr
