"""``moonshine plan`` as its users see it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from moonshine.blocks import presets
from moonshine.calls import plan_measurements
from moonshine.config import load_study
from moonshine.costs.cost import cost
from moonshine.formats.sizes import exported_bytes
from moonshine.search.place_latency import Latencies
from moonshine.search.space import Space
from moonshine.structures.build import build, from_structure, to_structure
from moonshine_workflow import cli
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.stages import fetch
from moonshine_workflow.students.layouts import given_structure, images_of
from moonshine_workflow.students.sizes import about_of
from tests.messages import names
from tests.workflow import tiny

MODEL = ["--model", "wrn-10-1", "--input", "3x8x8", "--classes", "10", "--block", "G(4)", "--block", "B(2)"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def plan(*arguments: str) -> int:
    return cli.main(["plan", *arguments])


def test_a_plan_lists_the_teacher_and_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(*MODEL, "--budget", "30k params") == 0
    text = capsys.readouterr().out
    rows = {line.split()[0]: line for line in text.splitlines() if line.endswith((" yes", " no"))}
    assert rows["teacher"].split()[1] == "77,850"
    assert rows["teacher"].endswith("no")
    assert rows.keys() >= {"teacher", "B(2)", "G(4)"}
    assert "Reachable with these blocks" in text
    assert "batch 1" in text
    assert 'mixed: {budget: "30k params", blocks: ["S", "G(4)", "B(2)"]}' in text


def test_blocks_that_cost_more_than_they_replace_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(*MODEL, "--block", "G(1)", "--budget", "1MB") == 0
    text = capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if line.startswith("Costlier than what they replace: ")]
    assert re.fullmatch(r".*: G\(1\) \(1\.\d\d times the MACs\)\.", line)


def test_what_a_budget_counts_of_generated_weights_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(*MODEL, "--block", "TT(2)", "--block", "FRIED", "--budget", "1MB") == 0
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("Generated weights: ")
    ]
    assert names(line, "TT(2), FRIED", "safetensors", "ONNX", "PyTorch")
    assert plan(*MODEL, "--budget", "1MB") == 0
    assert "Generated weights" not in capsys.readouterr().out


@pytest.mark.parametrize("budget", ["9k params", "1kB", "100 macs", "1us", "9kB onnx", "1B peak"])
def test_a_refused_budget_shows_what_comes_nearest(
    budget: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export(space: Space, *rest: object) -> Callable[..., int]:
        return lambda blocks, format: cost(space.build(blocks), space.input_shape).bytes

    monkeypatch.setattr(plan_measurements, "exporter", export)
    assert plan(*MODEL, "--budget", budget) == 2
    shown = capsys.readouterr()
    assert re.search(
        rf"budget {budget}: the smallest network has .*; allowed: from .*\. A rival, ", shown.err
    )
    title, _, _, teacher, *students = shown.out.rstrip().splitlines()
    assert title == f"What comes nearest to {budget}:"
    assert teacher.split()[:2] == ["teacher", "77,850"]
    assert {row.split()[0] for row in students} - {"mixed"} == {"B(2)", "G(4)"}
    assert all(row.endswith("no") for row in students)


def test_the_smallest_blocks_are_tried_where_none_of_the_papers_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan_measurements, "measure_latencies", _instantaneous)
    monkeypatch.setitem(presets.PRESETS, "paper", ("B(2)",))
    monkeypatch.setitem(presets.PRESETS, "small", ("BG(4,M)",))
    narrow = MODEL[:6]
    assert plan(*narrow, "--budget", "10k params") == 0
    shown = capsys.readouterr()
    assert names(shown.err, "paper", "10k params", "--block small")
    assert re.search(r"^BG\(4,M\) .* yes$", shown.out, re.MULTILINE)
    assert 'mixed: {budget: "10k params", blocks: small}' in shown.out
    assert plan(*narrow, "--budget", "9kB") == 2
    assert names(capsys.readouterr().out, "nearest to 9kB", "BG(4,M) may fit", "9kB onnx-int8")
    assert plan(*narrow, "--budget", "9k macs") == 2
    assert "onnx-int8" not in capsys.readouterr().out


def _instantaneous(space: Space, threads: int) -> Latencies:
    table = {path: dict.fromkeys(blocks, 1.0) for path, blocks in space.fitting.items()}
    return Latencies(1.0, table, threads, {})


def test_json_holds_every_student(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(*MODEL, "--budget", "25k params", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {option["name"]: option["fits"] for option in found["uniform"]} == {"G(4)": False, "B(2)": True}
    assert found["teacher"]["values"]["parameters"] == 77_850


def test_latencies_are_measured_once_unless_they_are_unreliable_or_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spreads = iter([0.4, 0.02, 0.02])

    def measured(space: Space, threads: int) -> Latencies:
        table = {path: dict.fromkeys(blocks, 1.0) for path, blocks in space.fitting.items()}
        return Latencies(1.0, table, threads, {"S": 0.02, "G(4)": next(spreads)})

    monkeypatch.setattr(plan_measurements, "measure_latencies", measured)
    said = []
    for more in ([], [], [], ["--measure-again"]):
        assert plan(*MODEL, "--budget", "1MB", *more) == 0
        shown = capsys.readouterr()
        said.append(("Measuring the latency" in shown.err, "latency of G(4) is unreliable" in shown.out))
    assert said == [(True, True), (True, False), (False, False), (True, False)]


def test_a_study_is_planned_on_its_prepared_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_study(tmp_path)
    assert plan("--budget", "1MB") == 2
    assert "snakemake results/tiny/data/dataset.json" in capsys.readouterr().err
    assert stage.main(fetch.run, nodes.fetch, ["--study", "tiny"]) == 0
    assert plan("--budget", "1MB", "--block", "G(4)") == 0
    assert "wrn-10-1 at 1x8x8, 2 classes" in capsys.readouterr().out


def test_students_that_the_study_gives_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    students = {
        "mine": {"blocks": {"stage3.*": "TT(2)", "*": "G(1)"}},
        "earlier": {"structure": "earlier.json"},
        "small": {"network": "wrn-10-0.5"},
        "listed": {"block": "G(4)"},
        "found": {"mixed": {"budget": "20k params"}},
    }
    tiny.write_study(tmp_path, tiny.study(students=students))
    to_structure("wrn-10-1", {"stage1.0": "S", "stage2.0": "S", "stage3.0": "B(2)"}).write(
        tmp_path / "earlier.json"
    )
    about = ["--input", "1x8x8", "--classes", "2", "--block", "G(4)", "--budget", "30k params"]
    assert plan(*about) == 0
    text = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.endswith((" yes", " no"))}
    assert [name for name in rows if name != "mixed"] == ["teacher", "G(4)", "mine", "earlier", "small"]
    sizes = {"mine": {"stage3.0": "TT(2)", "*": "G(1)"}, "earlier": {"stage3.0": "B(2)", "*": "S"}}
    networks = {name: build("wrn-10-1", blocks, 2, 1) for name, blocks in sizes.items()}
    networks["small"] = build("wrn-10-0.5", "S", 2, 1)
    expected = {name: cost(network, (1, 8, 8)).parameters for name, network in networks.items()}
    assert {name: int(rows[name][1].replace(",", "")) for name in expected} == expected
    assert [rows[name][-1] for name in expected] == ["yes", "no", "yes"]
    assert names(text, "Costlier", "mine", "MACs", "Generated weights: mine")
    assert plan(*about[:-1], "20.5k params") == 2
    nearest = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[-1] for row in nearest if row and row[0] in expected] == ["no", "no", "yes"]


def test_planned_files_of_a_study_are_those_it_would_ship(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    assert stage.main(fetch.run, nodes.fetch, ["--study", "tiny"]) == 0
    assert plan("--budget", "1MB torch-export", "--block", "G(4)", "--json") == 0
    (planned,) = json.loads(capsys.readouterr().out)["uniform"]
    study = load_study()
    images = images_of(study)
    structure = given_structure(study, study.teacher.name, "G(4)", images)
    about = about_of(images, structure)
    shipped = exported_bytes("torch-export", from_structure(structure), images.shape, about)
    assert planned["values"]["torch-export"] == shipped


@pytest.fixture
def of_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of as many bytes as there are parameters, and RAM of a fifth of the peak and 60 kB."""

    def exporter(space: Space, *rest: object) -> Callable[..., int]:
        def export(blocks: Mapping[str, str], measure: str) -> int:
            found = cost(space.build(blocks), space.input_shape)
            ram = found.peak_activation_bytes // 5 + 60_000
            return {"ram": ram, "ram of the interpreter": 60_000}.get(measure, found.parameters)

        return export

    monkeypatch.setattr(plan_measurements, "exporter", exporter)


BOARD = ["--model", "wrn-10-1", "--classes", "10", "--block", "G(4)"]


def test_a_board_that_a_network_fits(of_peak: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(*BOARD, "--input", "3x32x32", "--board", "esp32-s3") == 0
    text = capsys.readouterr().out
    assert names(text, "ordinary blocks: fits", "G(4): fits", "78 of 8,389 kB", "426 kB")
    assert len(re.findall(r"\[#+\++\.+\]", text)) == 4
    assert re.search(r"memory peaks in stage1\.\S+", text)
    assert "What would" not in text


def test_a_board_that_no_network_fits_and_what_would(
    of_peak: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(*BOARD, "--input", "3x96x96", "--board", "pico") == 1
    text = capsys.readouterr().out
    assert names(text, "ordinary blocks: does not fit", "G(4): does not fit", "What would bring")
    assert re.search(r"input of \d+x\d+: \d+ kB", text)
    assert re.search(r"a first convolution with twice the stride: \d+ kB", text)
    assert plan(*BOARD, "--input", "3x96x96", "--board", "pico", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [network["fits"] for network in found["networks"]] == [False, False]


def test_a_narrower_network_is_named_where_it_would_fit_a_board(
    of_peak: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan("--model", "wrn-10-2", "--classes", "10", "--input", "3x56x56", "--board", "pico") == 1
    assert re.search(r"a narrower network, wrn-10-[01]\.\d+: \d+ kB", capsys.readouterr().out)


def test_a_network_without_places_can_be_fitted_to_a_board(
    of_peak: None, capsys: pytest.CaptureFixture[str]
) -> None:
    mobilenet = ["--model", "torchvision/mobilenet_v2", "--classes", "10", "--input", "3x64x64"]
    assert plan(*mobilenet, "--board", "stm32f411") == 1
    text = capsys.readouterr().out
    assert names(text, "ordinary blocks: does not fit", "memory peaks in features.")
    assert re.search(r"input of \d+x\d+: \d+ kB", text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*MODEL, "--budget", "0MB"], ["0MB", "more than 0"]),
        ([*MODEL, "--budget", "12 bananas"], ["12 bananas", "1.2MB"]),
        ([*MODEL, "--budget", "1MB", "--budget", "2MB"], ["1MB", "2MB", "limit"]),
        ([*MODEL, "--budget", "1MB", "--block", "Q(2)"], ["unknown", "Q"]),
        (["--model", "wrn-10-1", "--budget", "1MB"], ["--model", "--input"]),
        (["--model", "wrn-11-1", "--input", "3x8x8", "--classes", "10", "--budget", "1MB"], ["wrn-11-1"]),
        (["--model", "wrn-10-1", "--input", "3x8", "--classes", "10", "--budget", "1MB"], ["--input", "3x8"]),
        (
            ["--model", "no_such:build", "--input", "3x8x8", "--classes", "10", "--budget", "1MB"],
            ["no_such"],
        ),
        (["--budget", "1MB"], ["params.yaml", "no such file"]),
        ([*MODEL, "--board", "esp8266"], ["--board", "esp8266", "esp32-s3", "pico"]),
    ],
)
def test_a_mistake_is_one_message(
    arguments: list[str], message: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(*arguments) == 2
    said = capsys.readouterr()
    assert names(said.err, *message)
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
