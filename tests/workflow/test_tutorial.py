"""docs/tutorial.md, command by command: a stranger's network, weights and folder of images, to an ONNX file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from moonshine_workflow.engines.handover import hand_over
from tests.workflow.clones import PROJECT, clone, inside
from tests.workflow.quick_python import quick_python

TEXT = (PROJECT / "docs" / "tutorial.md").read_text()
CLASSES = ("disc", "noise", "stripes")
ELSEWHERE = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "ORT_DISABLE_TELEMETRY", "MPLCONFIGDIR")
SET_UP = ("make setup", "source .venv/bin/activate")  # what the tests themselves run in

# Eight processes of the export stage would import torch or ONNX Runtime for one file each; tests of the files do that.
TIMED_HERE = """
RUNS = (2, 2)


def measure_file(path, input_shape, threads=1, batches=TIMED_BATCHES, seconds=SECONDS, trust=()):
    found = _measure_here(path, input_shape, threads, batches, seconds, trust)
    latencies = tuple(Latency(**row) for row in found["batches"])
    return Timing(format_of(path).name, path.name, threads, found["baseline_bytes"], latencies)
"""

# Enough for a number: nothing here depends on how good it is.
PASSED_ONCE = """
VISITS = (2, 2)
latency.__defaults__ = (1,)
"""
ADDED = {"moonshine/export/timings.py": TIMED_HERE, "moonshine/costs/latency.py": PASSED_ONCE}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


def picture(kind: str, random: np.random.Generator) -> Image.Image:
    height, width = random.integers(34, 60, 2)
    y, x = np.mgrid[:height, :width]
    inside_disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 4) ** 2
    mask = {"disc": inside_disc, "stripes": x // 4 % 2 == 0, "noise": random.random((height, width)) < 0.5}[
        kind
    ]
    colours = random.integers(0, 255, (2, 3))
    return Image.fromarray(np.where(mask[..., None], colours[0], colours[1]).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with what the tutorial's reader brings."""
    made = clone(tmp_path_factory.mktemp("tutorial"))
    for path, text in ADDED.items():
        (made / path).write_text((made / path).read_text() + text)
    random = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 10)):
        for kind in CLASSES:
            (made / "flowers" / split / kind).mkdir(parents=True)
            for number in range(count):
                picture(kind, random).save(made / "flowers" / split / kind / f"{number}.png")
    (made / "home").mkdir()
    (made / "my_nets.py").write_text(blocks("python")[0])
    hers: dict[str, Any] = {}
    exec(blocks("python")[0], hers)
    torch.manual_seed(0)
    weights = hers["build"](classes=3, width=64).state_dict()
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}, made / "flowers.pt"
    )
    return made


def run(folder: Path, command: str) -> str:
    folders = [str(Path(program).parent) for program in (quick_python(), sys.executable)]
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ELSEWHERE},
        "PATH": os.pathsep.join([*folders, os.environ["PATH"]]),
        "HOME": str(folder / "home"),
        "PYTHONPATH": str(folder),
    }
    # make would set up a second environment
    command = command.replace("make reproduce", "snakemake --cores 2")
    command = re.sub(r"^(snakemake|moonshine plan)", r"python -m \1", command)
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def said(folder: Path) -> dict[str, str]:
    """What each command of the tutorial printed, in its order; its params.yaml is written when it asks for it."""
    (params,) = blocks("yaml")
    printed: dict[str, str] = {}
    for command in commands():
        if command in SET_UP:
            continue
        if command.startswith("snakemake"):
            params = params.replace("CHECKSUM-OF-FLOWERS", printed["moonshine checksum flowers"].strip())
            params = params.replace("CHECKSUM-OF-WEIGHTS", printed["moonshine checksum flowers.pt"].strip())
            (folder / "params.yaml").write_text(params)
        printed[command] = run(folder, command)
    return printed


def test_the_plan_says_what_fits(said: dict[str, str]) -> None:
    plan = next(text for command, text in said.items() if command.startswith("moonshine plan"))
    rows = {line.split()[0]: line for line in plan.splitlines() if line.endswith((" yes", " no"))}
    assert rows["BG(2,M)"].endswith("yes")
    assert rows["teacher"].endswith("no")
    assert "INT8 ONNX" in plan
    assert re.search("slower than what (they replace|it replaces)", plan, re.IGNORECASE)


def test_the_exported_file_is_what_was_asked_for(said: dict[str, str], folder: Path) -> None:
    export = folder / "results" / "flowers" / "export"
    receipts = {one["format"]: one for one in json.loads((export / "receipts.json").read_text())["receipts"]}
    assert receipts["onnx-int8"]["bytes"] == (export / "network-int8.onnx").stat().st_size <= 1_000_000
    cost = json.loads((folder / "results/flowers/students/BG2-M/cost.json").read_text())
    assert cost["bytes"]["onnx-int8"] == receipts["onnx-int8"]["bytes"]
    assert receipts["onnx"]["max_logit_difference"] <= 0.001
    assert receipts["onnx"]["examples"] == 30


def test_the_example_names_a_class(said: dict[str, str]) -> None:
    answer = next(text for command, text in said.items() if "classify.py" in command)
    assert re.fullmatch(rf"({'|'.join(CLASSES)}) [0-9.]+%\n", answer)


def test_the_report_begins_with_the_answer(said: dict[str, str], folder: Path) -> None:
    report = (folder / "results" / "flowers" / "report.html").read_text()
    first = report.split("<h2")[1]
    assert "What to ship" in first
    assert "Under 1MB onnx-int8 ship BG(2,M)" in first
    assert 'href="export/network-int8.onnx"' in first


def test_the_home_holds_what_is_documented_and_no_more(said: dict[str, str], folder: Path) -> None:
    home = folder / "home"
    (line,) = [
        line
        for line in (PROJECT / "docs" / "engines.md").read_text().splitlines()
        if line.startswith("| your home |")
    ]
    allowed = re.findall(r"`~/([^`]+)`", line)
    written = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    assert [path for path in sorted(written) if not path.startswith(tuple(allowed))] == []
    assert any(path.startswith(".cache/moonshine/") for path in written)  # so this is the home that was used


def test_the_teacher_is_her_network_as_it_is(said: dict[str, str], folder: Path) -> None:
    from safetensors.torch import load_file

    theirs = torch.load(folder / "flowers.pt", weights_only=True)["state_dict"]
    ours = load_file(folder / "results" / "flowers" / "teacher" / "weights.safetensors")
    assert {f"module.{name}" for name in ours} == theirs.keys()
    assert all(torch.equal(tensor, theirs[f"module.{name}"]) for name, tensor in ours.items())


def test_dvc_takes_it_over(said: dict[str, str], folder: Path) -> None:
    with inside(folder):
        assert "nothing to do" in hand_over("snakemake")
