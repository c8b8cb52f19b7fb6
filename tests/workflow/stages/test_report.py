import ast
import csv
import json
import re
import shutil
import sqlite3
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
import yaml

from moonshine.errors import MoonshineError
from moonshine_workflow.commands.compare import compare
from moonshine_workflow.commands.compare import main as compare_main
from moonshine_workflow.commands.report import main as report_main
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.report import comparison, provenance, sections
from moonshine_workflow.report.notebooks import FOLDER, drop_volatile, execute, to_html, to_json
from moonshine_workflow.report.results import load_results, repository
from moonshine_workflow.tables.collect import collect, write_tables
from moonshine_workflow.tables.rows import Difference
from tests.messages import naming
from tests.workflow.fake_results import SIZES, make_study, table_rows, write_results
from tests.workflow.report.test_searches import SEARCH
from tests.workflow.report.test_what_to_ship import export

NOTEBOOKS = ("report.ipynb", "compare.ipynb")
WARM = {"fit": "least-squares", "batches": 4}
VEGA_LITE = '"$schema": "https://vega.github.io/schema/'
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def prepare(root, study=None, **settings):
    """Results of a study, collected, and its params.yaml."""
    study = study or make_study()
    write_results(root, study, **settings)
    (root / "params.yaml").write_text(yaml.safe_dump(study.model_dump(), sort_keys=False))
    partial = bool(settings.get("absent"))
    if not partial:
        write_tables(collect(study, root), root / "results" / study.study)
    return study


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A study with a diverged run and re-stamped results, and its report as the stage leaves it."""
    root = tmp_path_factory.mktemp("report")
    prepare(root, diverged=["distil@digits-GN-at-1"])
    stamp = {
        "when": "2026-11-20",
        "reason": "a docstring",
        "nodes": ["teacher@digits", "scratch@digits-G4-0"],
    }
    (root / "results" / "digits" / "restamps.json").write_text(json.dumps([stamp]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("PYTHONPATH", str(FOLDER.parent))
        assert report_main(["--study", "digits"]) == 0
    return root / "results" / "digits"


def run_cells(source, **parameters):
    """The HTML that a notebook shows, and what its figures say of themselves."""
    return "".join(
        getattr(one, "html", "") or getattr(one, "alt", "") for one in shown_by(source, **parameters)
    )


def shown_by(source, **parameters):
    """What the cells of a notebook show, without a kernel: the values of their last expressions."""
    shown: list = []
    space = {"display": shown.append}
    for cell in nbformat.read(source, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell.id, "exec"), space)
        space["display"] = shown.append
        if "parameters" in cell.metadata.get("tags", ()):
            space |= parameters
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), cell.id, "eval"), space))
    return shown


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_committed_clean(name):
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", cell.id) for cell in notebook.cells)  # chosen, not drawn
    assert [cell.id for cell in code if "parameters" in cell.metadata.get("tags", ())] == ["parameters"]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_only_call_functions(name):
    for cell in nbformat.read(FOLDER / name, as_version=4).cells:
        if cell.cell_type == "code":
            nodes_of_cell = [type(node) for node in ast.walk(ast.parse(cell.source))]
            assert not {ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.BinOp} & set(nodes_of_cell), cell.id


def test_the_report_is_one_file_that_works_offline(rendered):
    page = (rendered / "report.html").read_text()
    assert "<title>moonshine: digits</title>" in page
    assert '<meta name="viewport" content="width=device-width' in page
    assert "content=\"default-src 'none'; img-src data:; " in page  # whatever the scripts try
    page, vega, own = re.split(r"<script>(?=.*?</script>)", page, flags=re.DOTALL)
    assert "window.vegaEmbed=" in vega
    assert "vegaEmbed(box" in own
    sources = re.findall(r'\b(?:src|href)\s*=\s*["\']?([^"\'\s>]+)', page)
    assert len(sources) == 5  # two fronts, two methods' effects, the curves
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"<link|@import|url\(|https?://", page.replace(VEGA_LITE, ""))


def test_the_report_shows_results_and_no_code(rendered):
    page = (rendered / "report.html").read_text()
    assert "load_results" not in page
    assert "Traceback" not in page
    for words in (
        "Attention transfer (AT) beats training from scratch here",
        "Diverged and excluded from every mean:</b> distil@digits-GN-at-1",
        "Results were re-stamped:</b> on 2026-11-20 2 nodes",
        "a docstring",
        "2 of 3 seeds",
        "691,674",
        "a" * 64,
        "torch 2.15.0",
        "beta 1000.0, form resolution-free",
        "slower than the teacher, by more than 10%, are G(N) (batch 1 and 64)",
    ):
        assert words in page
    assert page.index("beats training from scratch") < page.index("<table")  # the answer comes first


def test_the_report_leaves_the_executed_notebook_and_a_timing(rendered):
    text = (rendered / "report.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert "papermill" not in json.dumps([notebook.metadata, *(cell.metadata for cell in notebook.cells)])
    injected = next(cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", ()))
    assert 'root = "."' in injected.source  # and no path of this machine
    assert str(rendered) not in text
    assert (rendered / "timings" / "report@digits.json").is_file()
    assert not list((rendered / "logs").glob("*.ipynb"))


def test_the_report_leaves_the_runs_in_mlflow(rendered):
    """Of the teacher alone: the students of these results have no structure."""
    with sqlite3.connect(rendered.parents[1] / "mlflow.db") as store:
        found = store.execute("SELECT value FROM tags WHERE key = 'moonshine.node'").fetchall()
    assert found == [("teacher@digits",)]


def small_notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), path)
    return path


def test_two_runs_give_the_same_bytes(tmp_path):
    sources = (
        "from moonshine_workflow.report.markup import Fragment\nvalue = 1",
        "Fragment('<p>words</p>')",
        "print(value)",
        "import json, ipykernel.connect as c",
        # another notebook may get the same TCP ports at the same time
        "json.loads(c.get_connection_info())['transport']",
    )
    source = small_notebook(tmp_path / "small.ipynb", *sources)
    once, twice = (
        drop_volatile(execute(source, {"value": 2}, tmp_path / "run.ipynb", tmp_path / "failed.ipynb"))
        for _ in range(2)
    )
    assert to_json(once) == to_json(twice)
    assert to_html(once, "small") == to_html(twice, "small")
    assert "<p>words</p>" in to_html(once, "small")
    assert once.cells[-1].outputs[0].data["text/plain"] == "'ipc'"


def test_a_failing_notebook_fails_the_stage_and_leaves_its_copy(tmp_path, monkeypatch, capfd):
    prepare(tmp_path, timings=False)
    folder = tmp_path / "results" / "digits"
    (folder / "report.html").write_text("an earlier report")
    (folder / "report.ipynb").write_text("{}")
    source = small_notebook(tmp_path / "broken.ipynb", "before = 'seen'", "print(before)", "1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("moonshine_workflow.stages.report._NOTEBOOK", source)
    monkeypatch.setattr("moonshine_workflow.stages.report.tracked", nullcontext)
    assert report_main(["--study", "digits"]) == stage.USAGE_ERROR
    message = capfd.readouterr().err
    assert "cell 4 raised ZeroDivisionError: division by zero" in message
    assert "results/digits/logs/report-failed.ipynb" in message
    assert "seen" in (folder / "logs" / "report-failed.ipynb").read_text()
    assert not (folder / "report.html").exists()
    assert not (folder / "report.ipynb").exists()


def test_a_partial_report_shows_what_there_is_and_leaves_the_tables_alone(tmp_path):
    study = make_study()
    absent = [node.name for node in nodes.trained(study) if node.student == "B2" or node.method == "kd"]
    prepare(tmp_path, study, absent=absent)
    page = run_cells(FOLDER / "report.ipynb", study="digits", root=tmp_path, partial=True)
    assert "Partial report:</b> 19 of 37 trained networks are finished" in page
    assert f"<li>{absent[0]}</li>" in page
    assert "no pair of completed runs yet to compare knowledge distillation" in page
    assert "3 of 4 students, 3 seeds" in page
    assert not (tmp_path / "results" / "digits" / "tables").exists()


def test_a_partial_report_of_nothing_is_a_page_all_the_same(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(make_study().model_dump()))
    page = run_cells(FOLDER / "report.ipynb", study="digits", root=tmp_path, partial=True)
    assert "0 of 37 trained networks" in page


def test_a_partial_report_that_cannot_be_written_says_where(tmp_path, monkeypatch, capsys):
    prepare(tmp_path, absent=["distil@digits-GN-at-1"])
    monkeypatch.chdir(tmp_path)
    shutil.rmtree("results/digits/logs", ignore_errors=True)
    Path("results/digits/logs").write_text("in the way, as a disk is that may only be read")
    assert report_main(["--study", "digits", "--partial"]) == stage.USAGE_ERROR
    assert "error: results/digits/logs: cannot be written (File exists)" in capsys.readouterr().err


def test_a_partial_report_is_of_the_study_in_params(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(make_study().model_dump()))
    with pytest.raises(MoonshineError, match=naming("study", "digits", "other")):
        load_results("other", tmp_path, partial=True)


def test_a_report_without_tables_names_the_table(tmp_path):
    with pytest.raises(MoonshineError, match=naming("results/digits/tables/tables.json", "no such file")):
        load_results("digits", tmp_path)


def test_the_repository_is_found_from_the_notebooks_folder(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert repository() == tmp_path


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
def test_the_answer_claims_no_more_than_the_verdict(rendered, found, words):
    sentence = sections.effect_sentence(load_results("digits", rendered.parents[1]), found)
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


HOSTILE = """<script>"&'"""


def poison(folder):
    """Every name that contains ``evil`` becomes hostile: in tables, in JSON and of files and folders."""
    for path in [*folder.rglob("*.json"), *folder.rglob("*.csv")]:
        if path.suffix == ".json":
            path.write_text(path.read_text().replace("evil", json.dumps(HOSTILE)[1:-1]))
        else:
            rows = list(csv.reader(path.read_text().splitlines()))
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([cell.replace("evil", HOSTILE) for cell in row] for row in rows)
    for path in sorted(folder.rglob("*evil*"), reverse=True):
        path.rename(path.with_name(path.name.replace("evil", HOSTILE)))


class Page(HTMLParser):
    """The tags, the names of attributes and the text of some HTML, with the values of attributes."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.text += "".join(value or "" for _, value in attrs)

    def handle_data(self, data):
        self.text += data


def test_no_name_in_the_results_becomes_markup(tmp_path):
    """Of a student, a method, a class, a file, a node, data and what a re-stamp says, in every section that has it."""
    study = make_study(
        students={"evil": {"block": "G(4)", "warm_start": WARM}, "G4": {"block": "G(4)"}},
        methods={"evil": {"at": {"form": "paper", "beta": 10.0}}},
        ship={"budget": "1GB", "allowed_error_pct": None, "calibration_images": 8, "logit_tolerance": 0.001},
    )
    prepare(
        tmp_path, study, gains={}, sizes={**SIZES, "evil": SIZES["G4"]}, diverged=["scratch@digits-evil-0"]
    )
    folder = tmp_path / "results" / "digits"
    export(tmp_path, load_results("digits", tmp_path), file=2.5, name="evil.onnx")
    about = {"name": "evil", "source": "evil", "class_names": ["evil"], "scored_classes": 1}
    dataset = json.loads((folder / "data" / "dataset.json").read_text()) | about
    drawn = {"node": "evil", "student": "evil", "method": "evil"}
    classes = [{"name": "evil", "colour": "#ff0000"}]
    structure = json.loads((folder / "students/evil/structure.json").read_text())
    structure |= {"blocks": {"evil": "evil"}, "search": SEARCH}
    stamp = {"when": "2026-11-20", "reason": "evil", "nodes": ["evil"]}
    for path, content in {
        "data/dataset.json": dataset,
        f"examples/{nodes.EXAMPLES_FILE}": {"pictures": [0], "networks": [drawn], "classes": classes},
        "students/evil/structure.json": structure,
        "restamps.json": [stamp],
    }.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    for name in ("picture", "truth", "evil"):
        (folder / "examples" / f"{name}-0.png").write_bytes(b"")
    tables = json.loads((folder / "tables/tables.json").read_text())
    tables["runs"][1]["test_iou_pct"] = {"evil": 50}
    (folder / "tables/tables.json").write_text(json.dumps(tables))
    poison(folder)
    shown = [
        one.html
        for one in shown_by(FOLDER / "report.ipynb", study="digits", root=tmp_path)
        if hasattr(one, "html")
    ]
    found = [load_results("digits", tmp_path)] * 2
    shown += [comparison.overview(found).html, comparison.common_students(found).html]
    shown += [comparison.heading(HOSTILE).html]
    pages = [Page(html) for html in shown if html]
    assert "script" not in set.union(*(page.tags for page in pages))
    assert set.union(*(page.attributes for page in pages)) <= {
        "alt",
        "class",
        "data-chart",
        "href",
        "src",
        "style",
        "tabindex",
    }
    assert [
        html for html, page in zip(filter(None, shown), pages, strict=True) if HOSTILE not in page.text
    ] == []
    assert not any("&lt;" in page.text or "&amp;" in page.text for page in pages)  # escaped twice


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


def published_report(root, data):
    (root / "studies" / "published").mkdir(parents=True)
    published = FOLDER.parent / "studies" / "published" / "cifar10.csv"
    shutil.copy(published, root / "studies" / "published")
    study = make_study(
        data={"name": data, "root": "data", "size": 32, "validation": 0.0, "split_seed": 0},
        teacher={"network": "wrn-40-2", "seed": 0},
        students={"G4": {"block": "G(4)"}, "BG2-M": {"block": "BG(4,M/2)"}},
        report={"published": "studies/published/cifar10.csv"},
    )
    prepare(root, study, gains={"kd": 0.1, "at": 0.8})
    return load_results("digits", root)


def test_published_errors_come_with_their_source_and_what_has_none(tmp_path):
    results = published_report(tmp_path, "cifar10")
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


def test_two_studies_are_compared_side_by_side(tmp_path):
    prepare(tmp_path, gains={"at": 0.8, "kd": 0.1})
    prepare(tmp_path, make_study(study="other", seeds=[0, 1]), gains={"at": -0.8, "kd": 0.1})
    page = run_cells(FOLDER / "compare.ipynb", studies=["digits", "other"], root=tmp_path)
    assert "moonshine: digits and other" in page
    assert "digits<br>at (%)" in page
    assert "other<br>at (%)" in page
    assert "BG(2,M)</td>" in page
    assert re.search(r"at: digits \(4\) −0\.\d\d ± .*at: other \(4\) \+0\.\d\d ± ", page)


@pytest.mark.parametrize(
    ("studies", "message"),
    [
        (["digits", "digits"], ["digits", "two"]),
        (["digits", "gone"], ["results/gone/tables/tables.json", "missing", "gone"]),
    ],
)
def test_a_comparison_needs_two_collected_studies(tmp_path, monkeypatch, studies, message, capsys):
    prepare(tmp_path)
    with pytest.raises(MoonshineError, match=naming(*message)):
        compare(studies, tmp_path / "out.html", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert compare_main(studies) == stage.USAGE_ERROR
    assert re.search(naming(*message), capsys.readouterr().err)
    assert not Path("results/compare.html").exists()
