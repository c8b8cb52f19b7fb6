"""Networks on label maps through the stages: what they leave, what the report shows of it, and what MLflow gets."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from moonshine.config import load_study
from moonshine.data import store
from moonshine.data.description import Description
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.report.class_scores import class_scores, example_predictions, top5
from moonshine_workflow.report.label_map_images import colours, draw_labels
from moonshine_workflow.report.results import load_results
from moonshine_workflow.report.sections import answer, main_table
from moonshine_workflow.stages import examples
from moonshine_workflow.tables.collect import collect, write_tables
from moonshine_workflow.tracking.back_fill import back_fill
from moonshine_workflow.tracking.store import active_runs, open_store
from tests.moonshine.datasets import scenes
from tests.workflow import tiny
from tests.workflow.fake_results import make_study, table_rows, write_results
from tests.workflow.running import run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which erfnet-0.25 and a student of it are trained for an epoch on seven scenes."""
    root = tmp_path_factory.mktemp("dense")
    folder = scenes.plant(root / "scenes", {"train": 4, "val": 3})
    data = scenes.config_of(folder).model_dump(mode="json")
    content = tiny.study(
        data=data,
        augment={"crop_padding": 1, "flip": True, "crop": [16, 16]},
        teacher={"network": "erfnet-0.25", "seed": 0},
        students={"B2": {"block": "B(2)"}},
        methods={
            "kd+at": {
                "kd": {"form": "textbook", "temperature": 2.0, "alpha": 0.5},
                "at": {"form": "paper", "beta": 1.0},
            }
        },
        seeds=[0],
        training={
            "epochs": 1,
            "batch_size": 2,
            "optimizer": {"kind": "adam", "lr": 0.01, "betas": [0.9, 0.99], "eps": 1.0e-8, "weight_decay": 0.0001},
            "schedule": {"kind": "poly", "power": 0.9},
            "class_weights": {"log_offset": 1.1},
            "precision": "fp32",
        },
    )  # fmt: skip
    tiny.write_study(root, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
        for words in (
            ("fetch",), ("structure", "B2"), ("measure",), ("measure", "B2"), ("teacher",),
            ("scratch", "B2", "0"), ("distil", "B2", "kd+at", "0"),
        ):  # fmt: skip
            assert run(*words) == 0, words
        study = load_study()
        write_tables(collect(study), nodes.collect("tiny").root)
        assert stage.main(examples.run, nodes.examples, ["--study", "tiny"]) == 0
        yield root


def test_metrics_hold_the_iou_of_every_class(trained: Path) -> None:
    test = json.loads((trained / "results/tiny/teacher/metrics.json").read_text())["test"]
    assert test["iou_pct"].keys() == set(scenes.CLASSES)
    known = [value for value in test["iou_pct"].values() if value is not None]
    assert test["miou_pct"] == pytest.approx(sum(known) / len(known))
    assert test["error_pct"] == pytest.approx(100 - test["miou_pct"])
    assert test["examples"] == len(test["image_errors"].split()) == 3


def test_tables_take_the_standard_error_over_pictures(trained: Path) -> None:
    results = load_results("tiny", trained)
    test = json.loads((trained / "results/tiny/teacher/metrics.json").read_text())["test"]
    error = results.rows[0].errors["scratch"]
    assert error.mean == pytest.approx(test["error_pct"], abs=1e-5)
    assert error.test_se == pytest.approx(test["error_se"], abs=1e-3)
    assert {run.test_miou_pct is not None for run in results.runs} == {True}


def test_the_report_speaks_of_miou_and_shows_every_class(trained: Path) -> None:
    results = load_results("tiny", trained)
    assert "100 − mIoU" in main_table(results).html
    assert "has an mIoU of" in answer(results).html
    rows = table_rows(class_scores(results).html)
    assert [row[0] for row in rows] == scenes.CLASSES
    assert all(len(row) == 4 for row in rows)  # the class, the teacher, scratch and the method
    html = example_predictions(results).html
    assert html.count("data:image/png;base64,") == 3 * (2 + 3)
    assert "B(2), kd+at" in html
    assert all(name in html for name in [*scenes.CLASSES, "void"])


def test_a_picture_has_the_colours_of_its_classes(trained: Path) -> None:
    folder = trained / "results/tiny/examples"
    truth = np.array(Image.open(folder / "truth-0.png").convert("RGB"))
    _, labels = (np.array(part) for part in scenes.scene(100))
    found = {scenes.VOID: "#000000", **dict(enumerate(colours(3)))}
    for label, colour in found.items():
        rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert (truth[labels == label] == rgb).all()


def test_an_output_that_is_not_scored_is_drawn_as_void(tmp_path: Path) -> None:
    draw_labels(torch.tensor([[0, 1, 2, scenes.VOID, 255]], dtype=torch.uint8), tmp_path / "map.png", 2)
    drawn = np.array(Image.open(tmp_path / "map.png").convert("RGB"))[0].tolist()
    first, second = ([int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in colours(2))
    assert drawn == [first, second, [0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_classes_that_are_not_scored_have_no_colour(trained: Path, tmp_path: Path) -> None:
    """As Cityscapes' void, the network's last output: the legend has the black void only."""
    shutil.copytree(trained, tmp_path / "copy")
    data = tmp_path / "copy/results/tiny/data"
    about = json.loads((data / store.DESCRIPTION).read_bytes()) | {"scored_classes": 2}
    source = about.pop("sha256")["source"]
    described = Description.model_validate_json(json.dumps(about))
    store.write_dataset(data, load_file(data / store.ARRAYS), described, source)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "copy")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
        assert stage.main(examples.run, nodes.examples, ["--study", "tiny"]) == 0
    folder = tmp_path / "copy/results/tiny/examples"
    classes = json.loads((folder / nodes.EXAMPLES_FILE).read_text())["classes"]
    assert [each["name"] for each in classes] == scenes.CLASSES[:2]
    legend = re.findall(
        r'background:(#\w+)"></span>([^<]+)<',
        example_predictions(load_results("tiny", tmp_path / "copy")).html,
    )
    assert legend == [*zip(colours(2), scenes.CLASSES[:2], strict=True), ("#000000", "void")]
    for path in folder.glob("*@*.png"):
        shown = {
            tuple(colour) for colour in np.array(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()
        }
        assert shown <= {tuple(int(c[at : at + 2], 16) for at in (1, 3, 5)) for c in [*colours(2), "#000000"]}


def test_drawing_twice_gives_the_same_bytes(trained: Path) -> None:
    folder = trained / "results/tiny/examples"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert stage.main(examples.run, nodes.examples, ["--study", "tiny"]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_mlflow_has_the_scores_and_the_pictures(trained: Path) -> None:
    back_fill(trained / "results/tiny")
    store = open_store("tiny")
    (found,) = active_runs(store)["distil@tiny-B2-kd+at-0"]
    assert found.data.metrics["test_miou_pct"] == pytest.approx(100 - found.data.metrics["test_error_pct"])
    assert {f"test_iou_pct/{name}" for name in scenes.CLASSES} <= found.data.metrics.keys()
    names = {item.path for item in store.client.list_artifacts(found.info.run_id, "examples")}
    assert {"examples/distil@tiny-B2-kd+at-0-0.png", "examples/truth-0.png"} <= names


def test_every_network_has_a_colour_of_its_own_for_every_class() -> None:
    assert len(set(colours(255))) == 255


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (16, [0, 8, 15])])
def test_the_pictures_are_chosen_by_their_place_alone(count: int, expected: list[int]) -> None:
    assert examples.shown_indices(count) == expected


def test_top5_errors_are_shown_where_there_are_classes_enough(tmp_path: Path) -> None:
    write_results(tmp_path, study := make_study())
    for path in (tmp_path / "results/digits").rglob("metrics.json"):
        metrics = json.loads(path.read_text())
        metrics["test"]["top5_error_pct"] = 1.25
        path.write_text(json.dumps(metrics))
    write_tables(collect(study, tmp_path), tmp_path / "results/digits")
    rows = table_rows(top5(load_results("digits", tmp_path)).html)
    assert rows[0] == ["teacher", "1.25", "–", "–"]
    assert rows[1] == ["G(4)", "1.25 ± 0.00", "1.25 ± 0.00", "1.25 ± 0.00"]


def test_digits_have_no_top5_error(tmp_path: Path) -> None:
    write_results(tmp_path, study := make_study())
    write_tables(collect(study, tmp_path), tmp_path / "results/digits")
    assert top5(load_results("digits", tmp_path)).html == ""
