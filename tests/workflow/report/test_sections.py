"""The answer, the notices and the tables of a report."""

import json
import re
import shutil

import pytest

from moonshine_workflow.graph import nodes
from moonshine_workflow.report import provenance, sections
from moonshine_workflow.report.notebooks import FOLDER
from moonshine_workflow.report.results import load_results
from moonshine_workflow.tables.collect import collect, write_tables
from moonshine_workflow.tables.rows import Difference
from tests.workflow.fake_results import SIZES, make_study, table_rows
from tests.workflow.report.rendering import prepare


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    root = tmp_path_factory.mktemp("sections")
    prepare(root)
    return load_results("digits", root)


def effect(mean, half_width, verdict, test_se=0.1, images=None):
    return Difference(
        "at", "scratch", "pooled", "", 4, 3, 3, mean, half_width, test_se, verdict, jackknife_images=images
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (effect(-0.84, 0.3, "better"), "Attention transfer (AT) beats training from scratch here"),
        (effect(-0.84, 0.3, "better"), "0.84 points lower (95 % interval over seeds −1.14 to −0.54"),
        (effect(0.84, 0.3, "worse"), "is worse than training from scratch here"),
        (effect(-0.2, 0.5, "inconclusive"), "the interval includes no difference"),
        (
            effect(-0.5, 0.2, "inconclusive", 0.4),
            "but the choice of test images alone leaves ±0.78 points open",
        ),
        (
            effect(-0.5, 0.2, "inconclusive", 0.4, 16),
            "but the choice of test images alone leaves ±0.85 points open",
        ),
        (
            effect(-0.5, 0.2, "inconclusive", None, 1),
            "but what the choice of test images leaves open is unknown",
        ),
        (
            effect(-0.5, 0.4, "inconclusive", 0.2),
            "with the ±0.39 points that the choice of test images leaves open the interval is ±0.56 points wide",
        ),
        (effect(-0.5, None, "inconclusive"), "one seed gives no interval"),
        (effect(None, None, "inconclusive", None), "no pair of completed runs yet"),
    ],
)
def test_the_answer_claims_no_more_than_the_verdict(collected, found, words):
    sentence = sections.effect_sentence(collected, found)
    assert words in sentence
    assert ("Inconclusive" in sentence) == (found.verdict == "inconclusive" and found.mean is not None)


def test_names_are_escaped_and_free_keys_are_quoted(tmp_path):
    at = {"at": {"form": "paper", "beta": 10.0}}
    study = make_study(methods={"gentle": at}, students={"G4": {"block": "G(4)"}})
    prepare(tmp_path, study, gains={"gentle": 0.8})
    path = tmp_path / "results" / "digits" / "data" / "dataset.json"
    dataset = json.loads(path.read_text())
    path.write_text(json.dumps(dataset | {"source": "<b>mine</b>", "sha256": {"source": {"a.gz": "c" * 64}}}))
    results = load_results("digits", tmp_path)
    assert "“gentle” beats" in sections.answer(results).html
    facts = provenance.facts(results).html
    assert "&lt;b&gt;mine&lt;/b&gt;" in facts
    assert f"a.gz: <code>{'c' * 64}" in facts


def test_a_teacher_that_came_with_its_weights_is_not_under_scratch(tmp_path):
    study = make_study()
    prepare(tmp_path, study)
    path = tmp_path / nodes.teacher("digits").folder / "metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps({**metrics, "epochs_run": 0, "warnings": "Its error is < mine."}))
    write_tables(collect(study, tmp_path), tmp_path / "results" / "digits")
    results = load_results("digits", tmp_path)
    assert "<b>The teacher:</b> Its error is &lt; mine." in sections.notices(results).html
    assert list(results.rows[0].errors) == ["teacher"]
    table, error = sections.main_table(results).html, f"{metrics['test']['error_pct']:.2f}"
    assert re.search(r"scratch \(%\).*>teacher \(%\)<[^<]*<[^<]*>Test SE<", table)
    teacher, student, *_ = table_rows(table)
    assert (teacher[-5:-1], student[-2]) == (["", "", "", error], "")
    assert f"has a test error of {error} %" in sections.answer(results).html
    assert "teacher" in (tmp_path / "results/digits/tables/table.tex").read_text()
    assert json.loads(collect(study, tmp_path)["metrics.json"])["teacher"]["test_error_pct"] == round(
        metrics["test"]["error_pct"], 4
    )


def test_a_student_that_costs_more_than_its_teacher_is_told_first(tmp_path):
    study = make_study()
    name, *_ = study.students
    prepare(tmp_path, study, sizes={**SIZES, name: (2 * SIZES["teacher"][0], SIZES["teacher"][1] // 2)})
    said = sections.notices(load_results("digits", tmp_path)).html
    assert "costs more than the teacher:</b> 2.00 times the parameters." in said
    assert said.count("costs more") == 1


def test_a_report_without_timings_says_so(tmp_path):
    prepare(tmp_path, timings=False)
    assert "No timing files" in provenance.timing_tables(load_results("digits", tmp_path)).html


def published_report(root, data, published="studies/published/cifar10.csv"):
    (root / published).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(FOLDER.parent / "studies" / "published" / "cifar10.csv", root / published)
    study = make_study(
        data={"name": data, "root": "data", "size": 32, "validation": 0.0, "split_seed": 0},
        teacher={"network": "wrn-40-2", "seed": 0},
        students={"G4": {"block": "G(4)"}, "BG2-M": {"block": "BG(4,M/2)"}},
        report={"published": published},
    )
    prepare(root, study, gains={"kd": 0.1, "at": 0.8})
    return load_results("digits", root)


@pytest.mark.parametrize("published", ["studies/published/cifar10.csv", "my-cifar10.csv"])
def test_published_errors_come_with_their_source_and_what_has_none(published, tmp_path):
    results = published_report(tmp_path, "cifar10", published)
    said = sections.published_title(results).html
    assert "BayesWatch/deficient-efficient" in said
    assert "cifar10.csv has no figure of cifar10 for BG(4,M/2) (scratch, kd, at)." in said
    assert "<td>5.81</td>" in sections.published_table(results).html


def test_where_nothing_is_published_of_the_data_that_is_said(tmp_path):
    results = published_report(tmp_path, "cifar100")
    said = sections.published_title(results).html
    assert (
        "cifar10.csv has no figure of cifar100 with the teacher wrn-40-2 for any network and method here"
        in said
    )
    assert sections.published_table(results).html == ""


def test_the_bytes_of_compressed_students_have_a_column(collected, tmp_path):
    assert "network.dc" not in sections.main_table(collected).html
    tables = collected.tables / nodes.TABLES
    content = json.loads(tables.read_text())
    student = content["rows"][1]["model"]["student"]
    sizes = iter((61_000, 63_440))
    for run in content["runs"]:
        if run["student"] == student and (size := next(sizes, None)):
            run["compressed_bytes"] = size
    shutil.copytree(collected.root, tmp_path / "root")
    path = tmp_path / "root" / tables.relative_to(collected.root)
    path.write_text(json.dumps(content))
    found = load_results("digits", tmp_path / "root")
    assert found.sizes(student)["dc"] == 63_440
    said = sections.main_table(found).html
    assert "<th>network.dc (MB)</th>" in said
    assert said.count("<td>0.063</td>") == 1
