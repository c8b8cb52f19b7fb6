"""The chart of error against a size that the reader chooses: what it knows, and that Vega takes it."""

import json
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
import vl_convert
from nbformat.v4 import new_code_cell, new_notebook, new_output

from moonshine_workflow.report.figures.interactive import pareto_chart
from moonshine_workflow.report.notebooks import to_html
from moonshine_workflow.report.results import load_results
from moonshine_workflow.tables.collect import collect, write_tables
from tests.workflow.fake_results import SIZES, make_study, write_results

HOSTILE = """</script><script>"&'"</script><img src=x onerror="document.title='mine'">"""
SHIP = {
    "budget": ["2MB peak", "300kB"],
    "allowed_error_pct": None,
    "calibration_images": 8,
    "logit_tolerance": 0.001,
}


class Page(HTMLParser):
    """The attributes of a page's elements, and its text."""

    def __init__(self, html):
        super().__init__()
        self.attributes, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def chart_of(html):
    """The specification that a browser finds in the report."""
    return json.loads(dict(Page(html).attributes)["data-chart"])


def results(root, **changes):
    study = make_study(**changes)
    write_results(root, study)
    write_tables(collect(study, root), root / "results" / "digits")
    return load_results("digits", root)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:  # the static figures take a second
        patch.setattr("moonshine_workflow.report.figures.interactive.pareto", lambda results, measure: None)
        return chart_of(pareto_chart(results(tmp_path_factory.mktemp("chart"), ship=SHIP)).html)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The report's chart of a study without a budget, of which a block and a method have such a name."""
    root = tmp_path_factory.mktemp("hostile")
    path, name = results(root).tables / "tables.json", json.dumps(HOSTILE)[1:-1]
    path.write_text(path.read_text().replace("G(4)", name).replace('"at"', f'"{name}"'))
    return pareto_chart(load_results("digits", root)).html


def points(spec):
    return {(point["student"], point["method"]): point for point in spec["data"]["values"]}


def choices(spec):
    (size,) = (param for param in spec["params"] if param["name"] == "size")
    return size["bind"]["options"]


def test_every_network_and_method_is_a_point_with_all_that_is_known_of_it(spec):
    found = points(spec)
    assert len(found) == 4 * 3 + 1
    point = found["G(4)", "at"]
    assert point["sizes"] == {
        "parameters": SIZES["G4"][0],
        "macs": SIZES["G4"][1],
        "fp32": 4 * SIZES["G4"][0] + 12_000,
        "peak": 131_072,
        "latency": 1.2,
    }
    assert point["shown"]["fp32"] == "1.028 MB"
    assert point["error"] == f"{point['mean']:.2f} ± {point['high'] - point['mean']:.2f} %"
    assert found["wrn-16-2", "teacher"]["sizes"]["latency"] == 2.0


def test_the_reader_chooses_among_the_sizes_and_begins_with_a_budget(spec):
    assert choices(spec) == ["fp32", "peak", "parameters", "macs", "latency"]
    limits = [layer["data"]["values"] for layer in spec["layer"] if "data" in layer]
    assert [[(limit["measure"], limit["x"]) for limit in found] for found in limits] == [
        [("peak", 2e6), ("fp32", 3e5)]
    ]


def test_without_a_budget_it_begins_with_parameters(hostile):
    assert choices(chart_of(hostile))[0] == "parameters"


def test_a_front_is_that_of_a_size(spec):
    found = points(spec)
    assert found["BG(2,M)", "at"]["front"] == ["parameters", "macs", "fp32"]  # G(4) is as fast, and better
    assert found["BG(2,M)", "scratch"]["own"] == ["parameters", "macs", "fp32"]
    assert found["BG(2,M)", "scratch"]["front"] == []


def test_a_student_is_labelled_once_where_it_is_best(spec):
    labelled = [(point["label"], point["method"]) for point in spec["data"]["values"] if point["label"]]
    assert sorted(labelled) == [
        ("B(2)", "at"),
        ("BG(2,M)", "at"),
        ("G(4)", "at"),
        ("G(N)", "at"),
        ("wrn-16-2", "teacher"),
    ]


def test_vega_draws_it(spec):
    drawn = vl_convert.vegalite_to_svg({**spec, "width": 600})
    assert drawn.count('aria-roledescription="point"') == 13
    assert ">Test error (%)<" in drawn


def test_a_name_is_data_in_the_chart(hostile):
    assert (HOSTILE, HOSTILE) in points(chart_of(hostile))
    assert "<script" not in hostile
    assert "<img src=x" not in hostile


@pytest.mark.skipif(not shutil.which("chromium"), reason="looks at the page with Chromium")
def test_a_browser_draws_it_in_the_place_of_the_figures(hostile, tmp_path):
    output = new_output("display_data", {"text/html": hostile})
    page = tmp_path / "page.html"
    page.write_text(to_html(new_notebook(cells=[new_code_cell("", outputs=[output])]), "a report"))
    assert page.read_text().count("data:image/png") == 2
    options = ["--headless", "--no-sandbox", "--virtual-time-budget=5000", "--dump-dom"]
    shown = subprocess.run(
        ["chromium", *options, page.as_uri()], capture_output=True, text=True, check=True
    ).stdout
    assert "<title>a report</title>" in shown
    assert shown.count('aria-roledescription="point"') == 13
    assert "data:image/png" not in shown
    assert HOSTILE in Page(shown).text
    assert "onerror" not in dict(Page(shown).attributes)


def test_no_result_is_no_chart(tmp_path):
    study = make_study()
    write_results(tmp_path, study)
    for path in (tmp_path / "results" / "digits").rglob("metrics.json"):
        path.unlink()
    write_tables(collect(study, tmp_path, partial=True), tmp_path / "results" / "digits")
    assert pareto_chart(load_results("digits", tmp_path)).html == ""
