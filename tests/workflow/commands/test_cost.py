"""The command line: the cost table, its JSON, mistakes, and what it imports."""

import json
import subprocess
import sys

import pytest

from moonshine.blocks.expressions import Conv
from moonshine.blocks.families.kind import Kind
from moonshine.blocks.registry import KINDS
from moonshine.structures.build import build
from moonshine_workflow.cli import main
from tests.messages import names


def test_table(capsys):
    assert main(["cost", "wrn-40-2", "--block", "G(4)", "--block", "BG-2-M_8", "--classes", "100"]) == 0
    about, heading, *rows = capsys.readouterr().out.splitlines()
    assert about.startswith("wrn-40-2, 100 classes, input 3x32x32, batch 1;")
    headings = "block parameters MACs published ops fp32 MB bf16 MB peak MB compression MACs ratio"
    assert " ".join(heading.split()) == headings
    assert [row.split()[:4] for row in rows] == [
        ["G(4)", "826,260", "117,830,144", "118,534,756"],
        ["BG(2,M/8)", "201,524", "34,075,136", "34,435,684"],
    ]
    assert [row.split()[-2:] for row in rows] == [["2.73x", "2.78x"], ["11.19x", "9.61x"]]
    assert len({len(line) for line in (heading, *rows)}) == 1


def test_generated_weights_are_dense_in_a_graph(capsys):
    assert main(["cost", "wrn-10-1", "--block", "G(4)", "--block", "HashedNet(1/2)"]) == 0
    *_, alias, last = capsys.readouterr().out.splitlines()
    dense = sum(9 * i * o for i, o in ((16, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64)))
    assert names(last, "HASH(0.5)", f"{4 * dense / 2 / 1e6:.3f} MB", "ONNX")
    assert "G(4)" not in last
    assert names(alias, "HashedNet(1/2)", "HASH(0.5)")


def test_blocks_by_place(capsys):
    by_place = "stage1.*=G(4) *=BG(2,M)"
    assert main(["cost", "wrn-10-1", "--block", by_place, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["blocks"]
    blocks = {"stage1.0": "G(4)", "stage2.0": "BG(2,M)", "stage3.0": "BG(2,M)"}
    assert row["block"] == by_place
    assert row["parameters"] == sum(each.numel() for each in build("wrn-10-1", blocks).parameters())
    assert main(["cost", "wrn-10-1", "--block", "stage4=S *=G(4)"]) == 2
    assert names(capsys.readouterr().err, "'stage4'", "stage1.0, stage2.0, stage3.0")


def test_json(capsys):
    assert main(["cost", "wrn-16-1", "--block", "S", "--block", "B(2)", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {key: found[key] for key in ("network", "num_classes", "input_shape", "batch")} == {
        "network": "wrn-16-1",
        "num_classes": 10,
        "input_shape": [3, 32, 32],
        "batch": 1,
    }
    ordinary, cheap = found["blocks"]
    assert (ordinary["block"], ordinary["parameters"], ordinary["macs"], ordinary["ops"]) == (
        "S",
        175066,
        26657408,
        26788490,
    )
    assert (ordinary["compression"], ordinary["macs_ratio"]) == (1.0, 1.0)
    assert cheap["compression"] == pytest.approx(175066 / cheap["parameters"])
    assert cheap["macs_ratio"] == pytest.approx(26657408 / cheap["macs"])
    assert cheap["bytes"]["bf16"] < cheap["bytes"]["fp32"] < ordinary["bytes"]["fp32"]


def test_block_defaults_to_the_ordinary_one_and_input_sets_the_channels(capsys):
    assert main(["cost", "wrn-10-1", "--input", "1x16x12", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["input_shape"] == [1, 16, 12]
    assert [row["block"] for row in found["blocks"]] == ["S"]


def test_a_new_kind_is_a_row(capsys, monkeypatch):
    monkeypatch.setitem(
        KINDS,
        "T",
        Kind("T", (), lambda place: Conv(place.in_channels, place.out_channels, stride=place.stride)),
    )
    assert main(["cost", "wrn-10-1", "--block", "T"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("T ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["wrn-40-2", "--block", "G(32)"],
            ["G(32)", "stage1.0", "32 groups", "N = 16"],
        ),
        (["wrn-40-2", "--block", "Q(2)"], ["unknown", "Q", "S", "G(g)"]),
        (["wrn-10-1", "--block", "stage1.*=S stage1.*=G(4) *=S"], ["twice", "stage1.*=G(4)", "once"]),
        (["wrn-10-1", "--block", "stage1.*=G(4) *"], ["no block", "'*'", "pattern=block"]),
        (["vgg-16"], ["vgg-16", "wrn-<depth>-<width>"]),
        (["wrn-10-1", "--classes", "0"], ["num_classes", "0", "1"]),
        (["wrn-10-1", "--input", "32x32"], ["--input", "32x32", "channels x height x width"]),
        (["wrn-10-1", "--input", "3x0x32"], ["--input", "3x0x32"]),
    ],
)
def test_mistakes_are_one_message(capsys, arguments, message):
    assert main(["cost", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("moonshine: ")
    assert names(captured.err, *message)
    assert len(captured.err.splitlines()) == 1


def test_imports_only_what_is_needed():
    """A mistake needs no torch, and costs need no compiler, which takes torch seconds to load."""
    code = """
import sys
from moonshine_workflow.cli import main
status = [main(["cost", "wrn-10-1", "--block", "Q"]), "torch" in sys.modules, main(["cost", "wrn-10-1"])]
heavy = sorted(sys.modules.keys() & {"torch._dynamo", "torchvision", "mlflow", "sklearn", "pandas"})
sys.exit(str((status, heavy)) if (status, heavy) != ([2, False, 0], []) else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_python_m():
    done = subprocess.run(
        [sys.executable, "-m", "moonshine", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("moonshine ")
