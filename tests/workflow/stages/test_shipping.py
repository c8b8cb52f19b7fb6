"""What ships is judged by its files: a network that 8 bits ruin is not promised with its float error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from moonshine.config import Study, load_study
from moonshine.errors import MoonshineError
from moonshine.export.receipts import Exported, Receipt
from moonshine.files import read_json
from moonshine.formats.format import NotConverted
from moonshine.formats.formats import FORMATS
from moonshine.formats.onnx import ONNX
from moonshine.formats.source import Source
from moonshine_workflow.stages import shipping
from moonshine_workflow.tables.choice import Candidate, ShippingChoice
from moonshine_workflow.tables.rows import Run, Tables
from moonshine_workflow.tables.shipped import Judged, Shipped, read_shipped, warnings
from tests.messages import naming
from tests.workflow import tiny
from tests.workflow.running import run

SHIP = {
    "budget": "1MB onnx-int8",
    "allowed_error_pct": 10.0,
    "calibration_images": 30,
    "logit_tolerance": 0.01,
}
STUDY = tiny.study(
    data={**tiny.STUDY["data"], "validation": 0.4},
    teacher={"network": "wrn-16-1", "seed": 0},
    students={"bad": {"network": "wrn-10-1"}, "good": {"network": "wrn-10-1"}},
    methods={},
    training={**tiny.STUDY["training"], "epochs": 8, "batch_size": 6},
    ship=SHIP,
)


def ruin(folder: Path) -> None:
    """Channel 0 of every norm times 3000, undone in the next convolution: the same function, but not in 8 bits."""
    weights = load_file(folder / "weights.safetensors")
    for stage in ("stage1.0", "stage2.0", "stage3.0"):
        for norm, *after in (("norm1", "branch.conv1", "shortcut"), ("branch.norm2", "branch.conv2")):
            _scale(weights, f"{stage}.{norm}", [f"{stage}.{name}" for name in after])
    _scale(weights, "norm", ["head"])
    save_file(weights, folder / "weights.safetensors")


def _scale(weights: dict[str, Tensor], norm: str, after: Sequence[str]) -> None:
    for part in ("weight", "bias"):
        weights[f"{norm}.{part}"][0] *= 3000
    for name in after:
        if f"{name}.weight" in weights:
            weights[f"{name}.weight"][:, 0] /= 3000


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """A student without an error, and beside it the same function in weights that do not survive 8 bits."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("_measure", "_teacher_timings"):
            patch.setattr(shipping, name, lambda *given: [])
        tiny.write_study(folder, STUDY)
        for command in (("fetch",), ("structure", "good"), ("scratch", "good", "0")):
            assert run(*command) == 0, command
        students = folder / "results/tiny/students"
        shutil.copytree(students / "good", students / "bad")
        ruin(students / "bad/scratch/seed0")
        rows = [
            Run("t", "teacher", "wrn-10-1", "S", "teacher", "teacher", 0, "completed", test_error_pct=0.0),
            *(
                Run(name, name, "wrn-10-1", "S", "scratch", "scratch", 0, "completed", test_error_pct=0.0)
                for name in ("bad", "good")
            ),
        ]
        Tables(runs=tuple(rows), rows=(), differences=()).write(folder / "results/tiny/tables/tables.json")
        study = load_study()
        named = dict.fromkeys("ABCDXY", study.students["good"])
        yield study.model_copy(update={"students": {**study.students, **named}})


def candidate(student: str, diverged: int = 0) -> Candidate:
    return Candidate(student, "scratch", 0, {}, True, 4.0, None, 1, 4.0, diverged)


def choice(ranked: str, **settings: Any) -> ShippingChoice:
    return ShippingChoice(status="ranked", ranked=tuple(map(candidate, ranked)), **settings)


def test_a_file_that_eight_bits_ruin_is_passed_over_and_the_next_one_ships(
    study: Study, tmp_path: Path
) -> None:
    """Float error 0 % of both, INT8 error of the first 50 %, and 10 % are allowed."""
    folder = tmp_path / "export"
    shipping.ship(
        study, ShippingChoice(status="ranked", ranked=(candidate("bad"), candidate("good"))), folder
    )
    shipped = read_shipped(folder)
    assert shipped is not None
    bad, good = shipped.judged
    assert (bad.network_pct, bad.verdict, good.verdict) == (0.0, "not accurate enough", "good")
    assert bad.files_pct["network-int8.onnx"] > 10 >= good.files_pct["network-int8.onnx"]
    assert (shipped.status, shipped.chosen, shipped.counted) == ("shipped", good, ("network-int8.onnx",))
    int8 = next(
        each for each in read_json(folder / "receipts.json")["receipts"] if each["format"] == "onnx-int8"
    )
    said = (
        f"* The file that the budget limits, network-int8.onnx: {int8['error_pct']:.2f} % of 20 test images"
    )
    assert said in (folder / "README.md").read_text()


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Without files: what each student would have been found to do, and which were tried and finally written."""
    log: list[str] = []
    current: list[str] = []

    def receipts(network: float, int8: float) -> Exported:
        rows = (("onnx", "network.onnx", network), ("onnx-int8", "network-int8.onnx", int8))
        return Exported(
            network, 100, tuple(Receipt(kind, file, 9, "a", 0.0, pct, 100) for kind, file, pct in rows)
        )

    def write_export(network: str, folder: Path, about: Any, *, judge: Any, **settings: Any) -> Exported:
        current[:] = [network]
        log.append(network if judge else f"{network} finally")
        if network not in ERRORS:
            raise NotConverted(f"onnx: {network} cannot be exported")
        if judge:
            judge(network, folder)
        return receipts(*ERRORS[network])

    monkeypatch.setattr(shipping, "write_export", write_export)
    monkeypatch.setattr(shipping, "write_receipts", lambda *given, **settings: receipts(*ERRORS[current[0]]))
    monkeypatch.setattr(shipping, "load", lambda folder, **settings: folder.parent.parent.name)
    monkeypatch.setattr(shipping, "_about", lambda made, node: None)
    monkeypatch.setattr(
        shipping, "_card", lambda made, chosen, shipped, *rest: _Said(warnings(shipped, chosen))
    )
    monkeypatch.setattr(shipping, "model_card", lambda card: "")
    return log


@dataclass(frozen=True)
class _Said:
    warnings: list[str]
    timings: tuple[()] = ()


ERRORS = {"A": (4.0, 30.0), "B": (5.0, 8.0), "C": (6.0, 6.5), "D": (7.0, 8.0)}
"""Validation error of the network and of its INT8 file: A is beyond 10 %, B falls by 3 points, C and D do not.

Others cannot be converted.
"""


@pytest.mark.parametrize(
    ("ranked", "ship", "log", "chosen"),
    [
        ("CA", {}, ["C"], "C"),
        ("ABCD", {}, ["A", "B", "C"], "C"),
        ("AB", {}, ["A", "B", "B finally"], "B"),
        ("AB", {"allowed_error_pct": None}, ["A", "B", "B finally"], "B"),
        ("A", {"allowed_error_pct": None}, ["A", "A finally"], "A"),
        ("A", {}, ["A"], None),
        ("AB", {"allowed_fall_points": 3.0}, ["A", "B"], "B"),
        ("A", {"budget": "1MB onnx"}, ["A"], "A"),
        ("D", {"budget": "1MB onnx", "allowed_error_pct": 6.9}, ["D"], None),
        ("A", {"budget": "1M params"}, ["A"], "A"),
        ("XC", {}, ["X", "C"], "C"),
        ("BX", {}, ["B", "X", "B finally"], "B"),
        ("XA", {}, ["X", "A"], None),
    ],
)
def test_which_of_the_ranked_ships(
    ranked: str,
    ship: dict[str, Any],
    log: list[str],
    chosen: str | None,
    tried: list[str],
    study: Study,
    tmp_path: Path,
) -> None:
    assert study.ship
    study = study.model_copy(update={"ship": study.ship.model_copy(update=ship)})
    shipping.ship(study, choice(ranked), tmp_path / "export")
    shipped = read_shipped(tmp_path / "export")
    assert shipped is not None
    assert tried == log
    assert (shipped.chosen.student if shipped.chosen else None) == chosen
    assert shipped.status == ("shipped" if chosen else "not accurate enough")


def test_what_cannot_be_converted_is_recorded_with_its_reason(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_once(source: Source) -> bytes:
        monkeypatch.setitem(FORMATS, "onnx", ONNX)
        raise MoonshineError("onnx: the network cannot be exported: no such operator")

    monkeypatch.setitem(FORMATS, "onnx", replace(ONNX, encode=fail_once))
    folder = tmp_path / "export"
    shipping.ship(
        study, ShippingChoice(status="ranked", ranked=(candidate("good"), candidate("good"))), folder
    )
    shipped = read_shipped(folder)
    assert shipped is not None
    first, second = shipped.judged
    assert (first.verdict, first.network_pct, first.files_pct) == ("not converted", None, {})
    assert first.reason == "onnx: the network cannot be exported: no such operator"
    assert (second.verdict, shipped.chosen) == ("good", second)


def test_where_nothing_can_be_converted_every_reason_is_told(
    tried: list[str], study: Study, tmp_path: Path
) -> None:
    with pytest.raises(MoonshineError, match=naming("X scratch seed 0", "onnx: X", "onnx: Y")):
        shipping.ship(study, choice("XY"), tmp_path / "export")
    assert tried == ["X", "Y"]
    assert list(tmp_path.iterdir()) == []


def record(network: float, **files: float) -> Shipped:
    chosen = Judged("A", "scratch", 0, network, {"network-int8.onnx": files["int8"]}, "falls")
    return Shipped(
        status="shipped",
        budgets=("1MB onnx-int8",),
        counted=("network-int8.onnx",),
        chosen=chosen,
        judged=(chosen,),
    )


def test_what_falls_and_what_diverged_is_told() -> None:
    assert warnings(record(4.0, int8=5.0), candidate("A")) == []
    (fall,) = warnings(record(4.0, int8=5.5), candidate("A"))
    assert "network-int8.onnx is 1.50 points worse in validation" in fall
    (diverged,) = warnings(record(4.0, int8=4.0), candidate("A", diverged=2))
    assert "2 of 3 seeds diverged" in diverged


def test_a_record_of_other_demands_is_not_the_answer() -> None:
    same = choice("AB", budgets=("1MB onnx-int8",))
    assert record(4.0, int8=5.0).answers(same)
    for other in ({"budgets": ("2MB onnx-int8",)}, {"allowed_error_pct": 9.0}, {"ranked": (candidate("B"),)}):
        assert not record(4.0, int8=5.0).answers(same.model_copy(update=other))
