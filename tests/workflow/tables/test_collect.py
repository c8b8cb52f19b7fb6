import csv
import json
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from moonshine.errors import MoonshineError
from moonshine.files import read_csv
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.graph.mistakes import USAGE_ERROR
from moonshine_workflow.stages.collect import run
from moonshine_workflow.tables.collect import collect, published_errors, write_tables
from moonshine_workflow.tables.latex import escape
from moonshine_workflow.tables.rows import Tables
from moonshine_workflow.tables.statistics import estimate
from moonshine_workflow.tables.summary import comparisons
from tests.messages import naming
from tests.workflow.fake_results import STUDENTS, make_study, write_results

PUBLISHED = Path(__file__).parents[3] / "studies" / "published" / "cifar10.csv"


def rows(text):
    return list(csv.DictReader(text.splitlines()))


def test_errors_are_means_over_seeds_of_the_nodes_own_metrics(tmp_path):
    study = make_study()
    write_results(tmp_path, study)
    files = collect(study, tmp_path)
    values = [
        json.loads((tmp_path / nodes.distil("digits", "B2", "at", seed).folder / "metrics.json").read_text())
        for seed in study.seeds
    ]
    expected = estimate([value["test"]["error_pct"] for value in values])
    row = next(row for row in rows(files["tables/table.csv"]) if row["student"] == "B2")
    assert float(row["at_mean"]) == pytest.approx(expected.mean, abs=1e-5)
    assert float(row["at_half_width"]) == pytest.approx(expected.half_width, abs=1e-5)
    assert (row["network"], row["block"], row["at_n"], row["at_seeds"]) == ("wrn-16-2", "B(2)", "3", "3")
    assert float(row["compression"]) == pytest.approx(691_674 / 131_000, rel=1e-6)
    metrics = json.loads(files["metrics.json"])
    assert metrics["test_error_pct"]["B2"]["at"] == pytest.approx(expected.mean, abs=1e-4)
    assert metrics["pooled_difference"]["at-scratch"]["mean"] < 0


def test_one_row_per_trained_node_and_one_per_epoch(tmp_path):
    study = make_study()
    write_results(tmp_path, study)
    files = collect(study, tmp_path)
    trained = nodes.trained(study)
    assert [row["node"] for row in rows(files["tables/runs.csv"])] == [node.name for node in trained]
    assert len(rows(files["tables/curves.csv"])) == len(trained) * study.training.epochs
    assert rows(files["tables/table.csv"])[0]["student"] == "teacher"
    sizes = [int(row["parameters"]) for row in rows(files["tables/table.csv"])]
    assert sizes == sorted(sizes, reverse=True)


def test_a_removed_student_leaves_the_tables_though_its_files_stay(tmp_path):
    write_results(tmp_path, make_study())
    fewer = make_study(students={name: STUDENTS[name] for name in ("G4", "B2")})
    files = collect(fewer, tmp_path)
    assert (tmp_path / nodes.measure("digits", "GN").outputs[0]).exists()
    assert not any("GN" in text or "G(N)" in text for text in files.values())


def test_the_same_results_give_the_same_bytes_and_read_back_as_they_were(tmp_path):
    study = make_study()
    write_results(tmp_path, study, diverged=["distil@digits-GN-at-1"])
    first, second = collect(study, tmp_path), collect(study, tmp_path)
    assert first == second
    write_tables(first, tmp_path)
    tables = Tables.read(tmp_path / "tables" / nodes.TABLES)
    order = [row.model.student for row in tables.rows]
    assert order == ["teacher", "G4", "B2", "GN", "BG2-M"]
    found = tables.runs
    assert found[0].network == "wrn-16-2"
    assert isinstance(found[0].test_examples, int)
    assert next(run for run in found if run.status == "diverged").test_error_pct is None
    assert {row.scope for row in tables.differences} == {"student", "pooled"}


def test_a_diverged_run_is_counted_and_left_out(tmp_path):
    study = make_study()
    write_results(tmp_path, study, diverged=["distil@digits-GN-at-1"])
    write_tables(collect(study, tmp_path), tmp_path)
    tables = Tables.read(tmp_path / "tables" / nodes.TABLES)
    row = next(row for row in tables.rows if row.model.student == "GN")
    assert (row.errors["at"].n, row.errors["at"].seeds) == (2, 3)
    alone = next(effect for effect in tables.differences if effect.student == "GN" and effect.method == "at")
    assert (alone.seeds, alone.expected_seeds) == (2, 3)
    pooled = next(effect for effect in tables.differences if effect.scope == "pooled")
    assert (pooled.students, pooled.seeds) == (3, 3)


def test_a_missing_node_is_named(tmp_path):
    study = make_study()
    write_results(tmp_path, study, absent=["distil@digits-B2-at-2"])
    with pytest.raises(
        MoonshineError, match=naming("students/B2/at/seed2/metrics.json", "missing", "--partial")
    ):
        collect(study, tmp_path)


def test_partial_lists_what_is_missing_and_uses_the_rest(tmp_path):
    study = make_study()
    absent = [node.name for node in nodes.all_nodes(study) if node.student == "B2" or node.seed == 2]
    write_results(tmp_path, study, absent=absent)
    files = collect(study, tmp_path, partial=True)
    status = {row["node"]: row["status"] for row in rows(files["tables/runs.csv"])}
    assert status["distil@digits-B2-at-0"] == status["scratch@digits-G4-2"] == "missing"
    assert status["scratch@digits-G4-1"] == "completed"
    table = {row["student"]: row for row in rows(files["tables/table.csv"])}
    assert (table["G4"]["at_n"], table["G4"]["at_seeds"]) == ("2", "3")
    assert (table["B2"]["parameters"], table["B2"]["at_mean"]) == ("", "")


def test_partial_with_nothing_at_all(tmp_path):
    files = collect(make_study(), tmp_path, partial=True)
    assert {row["status"] for row in rows(files["tables/runs.csv"])} == {"missing"}
    assert {row["verdict"] for row in rows(files["tables/differences.csv"])} == {"inconclusive"}


def test_results_of_another_node_are_refused(tmp_path):
    study = make_study()
    write_results(tmp_path, study)
    here, there = (nodes.scratch("digits", name, 0).folder / "metrics.json" for name in ("G4", "B2"))
    shutil.copy(tmp_path / there, tmp_path / here)
    with pytest.raises(MoonshineError, match=naming("G4/scratch/seed0/metrics.json", "scratch@digits-B2-0")):
        collect(study, tmp_path)


@pytest.mark.parametrize(
    ("file", "key", "value", "said"),
    [
        ("measure/teacher.json", "bytes", None, ["bytes", "None", "object"]),
        ("students/G4/cost.json", "macs", {}, ["macs", "{}", "valid integer"]),
        ("students/G4/cost.json", "compression", "x", ["compression", "x", "valid number"]),
        ("students/G4/cost.json", "bytes", {"fp32": "x"}, ["bytes.fp32", "x", "valid integer"]),
        ("students/G4/structure.json", "network", -1, ["network", "-1", "valid string"]),
        ("students/G4/structure.json", "blocks", {"stage1.0": {}}, ["blocks.stage1.0", "{}", "valid string"]),
        ("teacher/metrics.json", "network", ..., ["network", "missing"]),
        ("teacher/metrics.json", "status", 1, ["status", "1", "completed", "diverged"]),
        ("teacher/metrics.json", "test", [1], ["test", "[1]", "object"]),
    ],
)
def test_a_damaged_file_is_named(file, key, value, said, tmp_path):
    study = make_study()
    write_results(tmp_path, study)
    path = tmp_path / "results/digits" / file
    content = json.loads(path.read_text())
    content[key] = value
    if value is ...:
        del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(MoonshineError, match=naming(file, *said)):
        collect(study, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("runs", ..., ["runs", "missing"]),
        ("runs", [{"node": "x"}], ["runs.0.student", "missing"]),
        ("rows", "x", ["rows", "x", "array"]),
    ],
)
def test_damaged_tables_are_named(key, value, said, tmp_path):
    study = make_study()
    write_results(tmp_path, study)
    files = collect(study, tmp_path)
    content = json.loads(files[f"tables/{nodes.TABLES}"]) | {key: value}
    path = tmp_path / nodes.TABLES
    path.write_text(json.dumps({name: part for name, part in content.items() if part is not ...}))
    with pytest.raises(MoonshineError, match=naming(nodes.TABLES, *said)):
        Tables.read(path)


def test_runs_that_do_not_say_what_they_missed_get_the_bound_of_independence(tmp_path):
    study = make_study()
    write_results(tmp_path, study)
    paired = rows(collect(study, tmp_path)["tables/differences.csv"])
    path = tmp_path / nodes.scratch("digits", "G4", 0).folder / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["test"]["wrong"]
    path.write_text(json.dumps(metrics))
    bound = rows(collect(study, tmp_path)["tables/differences.csv"])
    changed = [
        new["student"] for old, new in zip(paired, bound, strict=True) if old["test_se"] != new["test_se"]
    ]
    assert changed == ["G4", "", "G4", ""]  # against scratch, alone and pooled, for both methods
    assert float(bound[0]["test_se"]) > float(paired[0]["test_se"])
    del metrics["test"]["examples"]
    path.write_text(json.dumps(metrics))
    unknown = rows(collect(study, tmp_path)["tables/differences.csv"])[0]
    assert (unknown["test_se"], unknown["verdict"]) == ("", "inconclusive")


def _label_maps(root, values):
    """Make errors those of label maps, and what their images say ``values``."""
    for path in root.rglob("metrics.json"):
        metrics = json.loads(path.read_text())
        del metrics["test"]["wrong"]
        metrics["test"]["examples"] = len((values or "").split()) or 1
        metrics["test"] |= {"miou_pct": 100 - metrics["test"]["error_pct"], "image_errors": values}
        path.write_text(json.dumps(metrics))


def test_a_difference_says_over_how_many_pictures_the_jackknife_went(tmp_path):
    study = make_study()
    write_results(tmp_path, study, examples=200)
    images = {row["jackknife_images"] for row in rows(collect(study, tmp_path)["tables/differences.csv"])}
    assert images == {""}
    _label_maps(tmp_path, "3.0 5.0")
    write_tables(collect(study, tmp_path), tmp_path)
    found = Tables.read(tmp_path / "tables" / nodes.TABLES).differences
    assert {effect.jackknife_images for effect in found} == {2}


@pytest.mark.parametrize(
    ("values", "own", "of_difference"), [("3.0 5.0", "1.0", "0.0"), ("3.0", "", ""), (None, "", "")]
)
def test_label_maps_have_no_binomial_error(values, own, of_difference, tmp_path):
    study = make_study()
    write_results(tmp_path, study)
    _label_maps(tmp_path, values)
    files = collect(study, tmp_path)
    assert {row["scratch_test_se"] for row in rows(files["tables/table.csv"])} == {own}
    assert {row["test_se"] for row in rows(files["tables/differences.csv"])} == {of_difference}


def test_attention_transfer_against_scratch_comes_first_and_every_pair_once():
    terms = {"at": "at", "kd": "kd", "kd+at": "kd+at"}
    found = comparisons(terms)
    assert found[:3] == [("at", "scratch"), ("kd+at", "scratch"), ("kd", "scratch")]
    assert found[3:] == [("at", "kd"), ("kd+at", "kd"), ("kd+at", "at")]
    assert {frozenset(pair) for pair in found[3:]} == {frozenset(pair) for pair in combinations(terms, 2)}


def test_the_loss_is_that_of_the_method_whatever_its_key():
    kd = {"form": "textbook", "temperature": 4.0, "alpha": 0.9}
    at = {"form": "paper", "beta": 10.0}
    study = make_study(methods={"mine": {"kd": kd, "at": at}, "strong": {"at": at}})
    assert {name: method.loss for name, method in study.methods.items()} == {
        "mine": "kd+at",
        "strong": "at",
    }


CIFAR10 = {"name": "cifar10", "root": "data", "size": 32, "validation": 0.0, "split_seed": 0}


def published_study(data="cifar10", teacher="wrn-40-2"):
    warm = {"block": "G(4)", "warm_start": {"fit": "least-squares", "batches": 4}}
    students = {"G4": {"block": "G(4)"}, "G4-warm": warm, "wrn-16-2": {"network": "wrn-16-2"}}
    return make_study(
        data={**CIFAR10, "name": data},
        teacher={"network": teacher, "seed": 0},
        students=students,
        report={"published": "published.csv"},
    )


SIZES = {
    "G4-warm": (814_650, 117_818_624),
    "teacher": (2_243_546, 327_599_360),
    "G4": (814_650, 117_818_624),
    "wrn-16-2": (691_674, 101_106_944),
}


def test_published_errors_stand_beside_ours(tmp_path):
    study = published_study()
    write_results(tmp_path, study, sizes=SIZES)
    shutil.copy(PUBLISHED, tmp_path / "published.csv")
    files = collect(study, tmp_path)
    table = {row["student"]: row for row in rows(files["tables/table.csv"])}
    assert table["teacher"]["scratch_published"] == "4.79"
    assert [table["G4"][f"{name}_published"] for name in ("scratch", "kd", "at")] == ["5.5", "5.81", "5.0"]
    assert table["wrn-16-2"]["at_published"] == "5.66"
    # a warm start is no part of the published method
    assert [table["G4-warm"][f"{name}_published"] for name in ("scratch", "kd", "at")] == ["5.5", "", ""]
    first = rows(files["tables/differences.csv"])[0]
    assert first["student"] == "G4"
    assert float(first["published"]) == pytest.approx(-0.5)


def test_published_errors_are_not_those_of_a_network_with_other_arguments(tmp_path):
    study = make_study(
        teacher={"model": "mine:build", "kwargs": {"width": 16}, "seed": 0},
        students={
            "thin": {"kwargs": {"width": 8}, "block": "S"},
            "same": {"kwargs": {"width": 16}, "block": "G(4)"},
        },
    )
    models: list[Any] = [
        SimpleNamespace(student=name, network="mine:build", block="S") for name in ("thin", "same")
    ]
    path = tmp_path / "mine.csv"
    path.write_text(f"{HEADER}{study.data.name},mine:build,mine:build,S,5,,\n")
    assert published_errors(path, study, models, {"scratch": "scratch"}) == {("same", "scratch"): 5.0}


@pytest.mark.parametrize("other", [{"teacher": "wrn-40-4"}, {"data": "cifar100"}])
def test_published_errors_of_another_teacher_or_other_data_are_not_used(other, tmp_path):
    study = published_study(**other)
    write_results(tmp_path, study, sizes=SIZES)
    shutil.copy(PUBLISHED, tmp_path / "published.csv")
    table = rows(collect(study, tmp_path)["tables/table.csv"])
    assert {row[f"{name}_published"] for row in table for name in ("scratch", "kd", "at")} == {""}


HEADER = "data,teacher,network,block,scratch_error_pct,kd_error_pct,at_error_pct\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, ["published.csv", "cannot be read"]),
        ("network,block\nwrn-40-2,S\n", ["published.csv", "data", "missing"]),
        (f"{HEADER}c,t,n,S,,,\nc,t,n,S,,,\n", ["published.csv", "two rows", "c, t, n, S"]),
        (
            f"{HEADER}cifar10,wrn-40-2,wrn-40-2,G(4),5.5 %,,\n",
            ["published.csv", "cifar10", "wrn-40-2", "G(4)", "scratch_error_pct", "5.5 %"],
        ),
    ],
)
def test_a_bad_published_file_is_named(tmp_path, text, message):
    study = published_study()
    write_results(tmp_path, study, sizes=SIZES)
    if text is not None:
        (tmp_path / "published.csv").write_text(text)
    with pytest.raises(MoonshineError, match=naming(*message)):
        collect(study, tmp_path)


def test_the_shipped_published_figures_are_of_networks_with_those_parameters():
    costs = read_csv(Path(__file__).parents[2] / "moonshine" / "wrn_costs.csv")
    parameters = {
        (f"wrn-{row['depth']}-{row['width']}", row["block"]): row["params"]
        for row in costs
        if row["classes"] == "10"
    }
    found = read_csv(PUBLISHED)
    assert len(found) == 29
    for row in found:
        assert parameters[row["network"], row["block"]] == row["parameters"], row
        assert (row["data"], row["teacher"]) == ("cifar10", "wrn-40-2")


def test_latex_is_a_whole_table_with_names_escaped(tmp_path):
    study = make_study(methods={"my_at": {"at": {"form": "paper", "beta": 10.0}}})
    write_results(tmp_path, study, gains={"my_at": 0.5}, diverged=["distil@digits-GN-my_at-1"])
    text = collect(study, tmp_path)["tables/table.tex"]
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + 1 + len(study.students)
    assert {line.count(" & ") for line in lines} == {7}
    assert r"& my\_at &" in lines[0]
    assert r"\,(2/3)" in next(line for line in lines if "G(N)" in line)
    assert text.count(r"\begin{tabular}{llrrrrrr}") == text.count(r"\end{tabular}") == 1
    assert escape(r"50% of_a {b} & \c^~#$") == (
        r"50\% of\_a \{b\} \& \textbackslash{}c\textasciicircum{}\textasciitilde{}\#\$"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path):
    study = make_study()
    write_results(tmp_path, study)
    write_tables(collect(study, tmp_path), tmp_path)
    document = (
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{tables/table}\end{document}"
    )
    (tmp_path / "main.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_stage_writes_its_outputs_and_nothing_else_into_the_tables(tmp_path, monkeypatch, caplog):
    study = make_study()
    write_results(tmp_path, study)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(study.model_dump()))
    monkeypatch.chdir(tmp_path)
    assert stage.main(run, nodes.collect, ["--study", "digits"]) == 0
    assert nodes.collect("digits").is_done()
    assert {path.name for path in Path("results/digits/tables").iterdir()} == set(nodes.TABLE_FILES)
    (tmp_path / nodes.scratch("digits", "G4", 0).folder / "history.csv").unlink()
    before = Path("results/digits/tables/runs.csv").read_bytes()
    assert stage.main(run, nodes.collect, ["--study", "digits"]) == USAGE_ERROR
    assert Path("results/digits/tables/runs.csv").read_bytes() == before
