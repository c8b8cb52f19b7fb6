import io
from itertools import combinations
from xml.etree import ElementTree

import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from matplotlib.text import Text

from moonshine_workflow.report.figures.curves import curves
from moonshine_workflow.report.figures.drawing import DPI, STYLES, WIDTH, new_figure, place_labels, to_svg
from moonshine_workflow.report.figures.effects import effects, published
from moonshine_workflow.report.figures.pareto import BUDGET, draw_study, pareto, short_number
from moonshine_workflow.report.results import load_results
from moonshine_workflow.tables.collect import collect, write_tables
from tests.workflow.fake_results import make_study, write_results


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A study with a diverged run, as it stands after collect."""
    root = tmp_path_factory.mktemp("figures")
    study = make_study()
    write_results(root, study, diverged=["distil@digits-GN-at-1"])
    write_tables(collect(study, root), root / "results" / "digits")
    return root


@pytest.fixture
def results(root):
    return load_results("digits", root)


@pytest.fixture
def nothing(tmp_path):
    """A study of which no node has run."""
    study = make_study()
    write_tables(collect(study, tmp_path, partial=True), tmp_path / "results" / "digits")
    write_results(tmp_path / "elsewhere", study)
    (tmp_path / "results" / "digits" / "data").mkdir()
    source = tmp_path / "elsewhere" / "results" / "digits" / "data" / "dataset.json"
    source.rename(tmp_path / "results" / "digits" / "data" / "dataset.json")
    return load_results("digits", tmp_path)


def drawn(picture):
    assert picture is not None
    return picture


FIGURES = {
    "parameters": lambda results: pareto(results, "parameters"),
    "macs": lambda results: pareto(results, "macs"),
    "effects": lambda results: effects(results, "at"),
    "curves": curves,
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_repeatable_pngs_of_a_phones_width(results, name):
    first, second = drawn(FIGURES[name](results)), drawn(FIGURES[name](results))
    assert first.png == second.png
    image = imread(io.BytesIO(first.png))
    assert image.shape[1] == round(WIDTH * DPI)
    assert image.std() > 0.02  # something is drawn
    data, metadata = first._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == data["text/plain"] == first.alt


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_to_draw_is_no_figure(nothing, name):
    assert FIGURES[name](nothing) is None


def test_for_a_document_it_is_drawn_in_curves_and_turns_light_on_dark(results):
    figure, alt = drawn(draw_study(results, "parameters", (7.5, 3.8)))
    svg = to_svg(figure, alt)
    assert svg == to_svg(*drawn(draw_study(results, "parameters", (7.5, 3.8))))
    assert f"<dc:title>{alt}</dc:title>" in svg
    assert "<dc:date>" not in svg
    assert "@media (prefers-color-scheme: dark)" in svg
    ElementTree.fromstring(svg)


def test_a_budget_is_a_line(tmp_path):
    ship = {"budget": "300kB", "allowed_error_pct": None, "calibration_images": 8, "logit_tolerance": 0.001}
    study = make_study(ship=ship)
    write_results(tmp_path, study)
    write_tables(collect(study, tmp_path), tmp_path / "results" / "digits")
    results = load_results("digits", tmp_path)
    (axes,) = drawn(draw_study(results, "fp32"))[0].axes
    assert [line.get_xdata() for line in axes.lines if line.get_color() == BUDGET] == [[300_000, 300_000]]
    (axes,) = drawn(draw_study(results, "macs"))[0].axes
    assert not any(line.get_color() == BUDGET for line in axes.lines)


def test_the_front_says_who_is_on_it(results):
    alt = drawn(pareto(results, "parameters")).alt
    on_front = alt.split("On the front: ")[1]
    assert "BG(2,M) at" in on_front  # the smallest student cannot be dominated by size
    assert "G(4) scratch" not in on_front  # with attention transfer the same student is better
    assert "wrn-16-2 teacher" in on_front


def test_effects_are_told_in_words_with_the_pooled_one_last(results):
    alt = drawn(effects(results, "at")).alt
    assert [part.split()[0] for part in alt.split(": ")[1].split("; ")] == [
        "G(4)",
        "B(2)",
        "G(N)",
        "BG(2,M)",
        "pooled",
    ]
    assert "pooled (3) −0." in alt


@pytest.mark.parametrize(("seed", "changes"), [("1", False), ("2", True)])
def test_a_diverged_run_is_in_no_curve(results, seed, changes):
    before = drawn(curves(results)).png
    for row in results.curves:
        if (row["student"], row["method"], row["seed"]) == ("GN", "at", seed):
            row["validation_error_pct"] = "77"
    assert (drawn(curves(results)).png != before) == changes


def test_of_a_crowd_those_on_the_front_are_named(results, monkeypatch):
    named = {}
    monkeypatch.setattr(
        "moonshine_workflow.report.figures.pareto.place_labels",
        lambda *given: named.update({x[2]: x for x in given[2]}),
    )
    drawn(pareto(results, "parameters"))
    assert len(named) == 5
    named.clear()
    monkeypatch.setattr("moonshine_workflow.report.figures.pareto._MAX_LABELS", 4)
    alt = drawn(pareto(results, "parameters")).alt
    assert named
    assert all(f"{label} " in alt.split("On the front: ")[1] for label in named)


def test_of_a_crowd_the_best_have_a_panel(results, monkeypatch):
    monkeypatch.setattr("moonshine_workflow.report.figures.curves.PANELS", 2)
    assert "for 2 students of 4, those of lowest error" in drawn(curves(results)).alt


def test_a_single_epoch_has_a_single_tick(tmp_path, monkeypatch):
    training = make_study().training.model_dump() | {"epochs": 1}
    write_results(tmp_path, make_study(training=training))
    write_tables(collect(make_study(training=training), tmp_path), tmp_path / "results" / "digits")
    ticks: list[float] = []

    def look(figure, alt):
        low, high = figure.axes[-1].get_xlim()
        ticks.extend(tick for tick in figure.axes[-1].get_xticks() if low <= tick <= high)

    monkeypatch.setattr("moonshine_workflow.report.figures.curves.to_png", look)
    curves(load_results("digits", tmp_path))
    assert ticks == [0]


def test_without_a_validation_split_the_curves_are_those_of_training(tmp_path):
    data = {"name": "digits", "size": 16, "validation": 0.0, "test": 0.25, "split_seed": 0}
    study = make_study(data=data, students={"G4": {"block": "G(4)"}}, seeds=[0])
    write_results(tmp_path, study)
    write_tables(collect(study, tmp_path), tmp_path / "results" / "digits")
    results = load_results("digits", tmp_path)
    assert drawn(curves(results)).alt.startswith("Training error by epoch for 1 students")
    assert "pooled (1)" in drawn(effects(results, "kd")).alt  # one seed: means without intervals
    assert published(results) is None


def test_published_errors_are_drawn_where_there_are_some(tmp_path):
    text = (
        "data,teacher,network,block,scratch_error_pct,kd_error_pct,at_error_pct\n"
        "digits,wrn-16-2,wrn-16-2,G(4),5.1,,4.2\n"
    )
    (tmp_path / "published.csv").write_text(text)
    study = make_study(report={"published": "published.csv"})
    write_results(tmp_path, study)
    write_tables(collect(study, tmp_path), tmp_path / "results" / "digits")
    assert (
        drawn(published(load_results("digits", tmp_path))).alt
        == "Published test errors beside ours for 1 networks."
    )


def test_methods_differ_in_marker_line_and_lightness():
    assert (
        len({style.marker for style in STYLES}) == len({str(style.line) for style in STYLES}) == len(STYLES)
    )
    weights = (0.299, 0.587, 0.114)
    grey = [sum(w * c for w, c in zip(weights, to_rgb(style.color), strict=True)) for style in STYLES[:3]]
    assert grey[0] - grey[1] > 0.15
    assert grey[1] - grey[2] > 0.15


def test_a_methods_look_follows_its_losses_not_the_order_of_keys(tmp_path):
    kd, at = {"form": "released", "temperature": 4.0, "alpha": 0.9}, {"form": "released", "beta": 1.0}
    methods = {"weak": {"at": at}, "at": {"at": at}, "both": {"at": at, "kd": kd}, "kd": {"kd": kd}}
    for order, looks in (("weak at both kd", [0, 2, 4, 3, 1]), ("kd at weak both", [0, 1, 2, 4, 3])):
        study = make_study(methods={name: methods[name] for name in order.split()})
        write_results(tmp_path, study)
        write_tables(collect(study, tmp_path), tmp_path / "results" / "digits")
        assert list(load_results("digits", tmp_path).looks.values()) == looks


def test_labels_of_a_crowd_do_not_overlap():
    points = [(1.0 + 0.02 * (i % 5), 1.0 + 0.02 * (i // 5)) for i in range(25)]
    figure = new_figure(4.6)
    axes = figure.add_subplot()
    axes.set_xlim(0, 2)
    axes.set_ylim(0, 2)
    place_labels(figure, axes, [(x, y, f"BG(2,{i})") for i, (x, y) in enumerate(points)], points, [points])
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    frame = axes.get_window_extent()
    assert len(boxes) == 25
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
    assert all(frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)


@pytest.mark.parametrize(("value", "text"), [(81_386, "81.4K"), (2e6, "2M"), (5.2e9, "5.2G"), (12, "12")])
def test_sizes_on_axes_are_short(value, text):
    assert short_number(value) == text
