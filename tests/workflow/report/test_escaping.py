"""No name in a study's results becomes markup."""

import csv
import json
from html.parser import HTMLParser

from moonshine_workflow.graph import nodes
from moonshine_workflow.report import comparison
from moonshine_workflow.report.notebooks import FOLDER
from moonshine_workflow.report.results import load_results
from tests.workflow.fake_results import SIZES, make_study
from tests.workflow.report.rendering import prepare, shown_by
from tests.workflow.report.test_searches import SEARCH
from tests.workflow.report.test_what_to_ship import export

WARM = {"fit": "least-squares", "batches": 4}
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
