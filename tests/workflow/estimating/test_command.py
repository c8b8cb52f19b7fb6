"""``moonshine estimate`` as its users see it: its numbers, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moonshine.config import load_study
from tests.workflow import tiny
from tests.workflow.estimating.fake_measurements import SECONDS, measured
from tests.workflow.estimating.studies import SIZE, estimate


def test_an_estimate_from_measurements_made_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    path = measured(load_study(), tmp_path / "there.json")
    assert estimate("--throughput", str(path), *SIZE, "--devices", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    # epochs x (training images x training + validation images x evaluation) + test images x evaluation
    each = {kind: 2 * (40 * SECONDS[loss] + 10 * 0.25) + 20 * 0.25 for kind, loss in
            (("teacher", "ce"), ("scratch", "ce"), ("kd", "kd"), ("at", "at"))}  # fmt: skip
    assert {row["trained_by"]: row["seconds_each"] for row in found["rows"]} == each
    total = each["teacher"] + 2 * (each["scratch"] + each["kd"] + each["at"])
    assert found["device_seconds"] == total
    assert found["each_network"] == {"epochs": 2, "batch_size": 16, "steps": 6, "images": 80}
    # teacher and scratch beside each other, then at and at, kd and kd; scratch fills the gap that never is
    assert found["wall_seconds"] == {"1": total, "2": total / 2 + each["scratch"] / 2}
    assert found["longest_chain"]["nodes"] == ["teacher@tiny", "distil@tiny-G4-at-0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "study 'nowhere': no such file; allowed: a file, or one of studies/: small"),
        (["nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--devices", "0"], "--devices is 0; allowed: a whole number from 1"),
        (["--images", "0"], "--images is 0; allowed: a whole number from 1"),
        (["--input", "8x8"], "--input is '8x8'; allowed: channels x height x width"),
        (["--measure-batch", "1"], "--measure-batch is 1; allowed: a whole number from 2"),
        (["--student", "G5"], "--student is G5; allowed: the students of tiny: G4, BG2-M"),
        (["--pictures-per-second", "5"], "are decoded before training"),
        (["--tflops", "0"], "--tflops is 0.0; allowed: a number above 0"),
        (["--throughput", "none.json", *SIZE], "none.json: cannot be read"),
        (["--throughput", "torn.json", *SIZE], "torn.json: the file: found"),
        (["--throughput", "odd.json", *SIZE], "odd.json: threads: found 'many'"),
        ([], "--images, --test-images, --input, --classes"),
    ],
)
def test_a_mistake_is_one_message(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_study(tmp_path)
    Path("studies").mkdir()
    Path("studies/small.yaml").touch()
    path = measured(load_study(), tmp_path / "odd.json")
    path.write_text(path.read_text().replace('"threads": 1', '"threads": "many"'))
    Path("torn.json").write_text("{")
    assert estimate(*arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
