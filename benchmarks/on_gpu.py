"""What only a machine with a GPU can show, step by step, for one that is lent for about 13 minutes, 10 a command.

    python benchmarks/on_gpu.py --out FOLDER [--minutes 9] [--steps tests throughput estimate recipe] [--tiny]
    python benchmarks/on_gpu.py --split cifar10.npz --out data/gpu      # before, where the data are

It needs torch, pytest and moonshine's other dependencies (pydantic, for one: carry the wheels that the machine's image
lacks), but neither an engine nor MLflow nor an installed moonshine.
The steps, the most valuable first; each has a limit of its own, and whatever it leaves stays when a later one fails:

* tests: those of data, training and devices, with the ones that need a GPU;
* throughput: a step of attention transfer, with the teacher's outputs computed, read from a store or given, against a
  textbook loop: with deterministic kernels and with the fastest, then both compiled (teacher_store.py);
* estimate: ``moonshine estimate studies/cifar10.yaml --save``, from which any machine prints what the study costs;
* recipe: the paper's on CIFAR-10 (run_nodes.py) for the rest of the time, from data that ``--split`` has cut into
  pieces that travel, in data/gpu. What it leaves in FOLDER continues it another day: put that into the next FOLDER, or
  into data/gpu, and run this again.

FOLDER gets at most eight files of 16 MB: log.txt, steps.json, throughput.txt, cifar10.json and results.tar.gz.0 to 3.
``--tiny`` tries all of it in some minutes on a CPU, without the steps' own limits. Where 64 MB travel with a command:
first the three steps that need no data; then ``--steps recipe`` with one piece of the data a command, the last of which
has time left to train.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

PROJECT = Path(__file__).parents[1]
DATA = PROJECT / "data" / "gpu"
"""Ignored by git: pieces of the data, what an earlier day left, and the study's folder."""
PIECES = 3
PACKING = 20.0
"""Seconds that the recipe leaves for packing its results."""
STEPS = ("tests", "throughput", "estimate", "recipe")
TESTED = ("tests/moonshine/data", "tests/moonshine/training", "tests/workflow/training/test_devices.py")
KERNELS = {
    "deterministic": (45, []),
    "fastest": (45, ["--fastest"]),
    "compiled": (75, ["--compile"]),
    "compiled-fastest": (75, ["--compile", "--fastest"]),
}
"""Seconds and options of teacher_store.py."""


@dataclass(frozen=True)
class Step:
    """A command with the seconds that it may take, the folder in which it runs, and the file that gets what it says."""

    name: str
    seconds: float
    command: tuple[str, ...]
    folder: Path = PROJECT
    says: str = "log.txt"


def steps(kinds: list[str], out: Path, deadline: float, tiny: bool) -> Iterator[Step]:
    """The steps of these kinds, in order, for a clock that `time.monotonic` reads; the last takes the rest of it."""
    python, device = sys.executable, "cuda" if torch.cuda.is_available() else "cpu"
    if "tests" in kinds:
        places = ("tests/moonshine/training/test_execution.py",) if tiny else TESTED
        yield Step("tests", 120, (python, "-m", "pytest", "-q", "-rs", *places))
    if "throughput" in kinds:
        size = ("--networks", "wrn-10-1", "--blocks", "G(4)", "--batch", "8", "--steps", "2", "--rounds", "1")
        full = ("--networks", "wrn-40-2", "--blocks", "S", "G(4)", "--steps", "20", "--rounds", "3")
        for name, (seconds, options) in KERNELS.items():
            command = ("benchmarks/teacher_store.py", "--device", device, *options, *(size if tiny else full))
            yield Step(f"throughput-{name}", seconds, (python, *command), says="throughput.txt")
    if "estimate" in kinds:
        study = f"studies/{'cifar10-smoke' if tiny else 'cifar10'}.yaml"
        save = ("--save", str(out / "cifar10.json"))
        yield Step("estimate", 150, (python, "-m", "moonshine_workflow.cli", "estimate", study, *save))
    if "recipe" in kinds:
        folder = recipe_folder(tiny)
        if folder is None:
            print(f"recipe: {DATA} has fewer than {PIECES} pieces of the data; --split makes them")
            return
        for part in () if any(out.glob("results.tar.gz.*")) else DATA.glob("results.tar.gz.*"):
            shutil.copy(part, out)
        left = deadline - time.monotonic()
        command = ("benchmarks/run_nodes.py", "--minutes", str((left - PACKING) / 60), "--keep", str(out))
        yield Step("recipe", left, (python, str(PROJECT / command[0]), *command[1:]), folder)


def recipe_folder(tiny: bool) -> Path | None:
    """A folder with the paper's study as params.yaml, None where its data are not all there."""
    folder = DATA / ("tiny" if tiny else "recipe")
    folder.mkdir(parents=True, exist_ok=True)
    study = PROJECT / "studies" / f"{'cifar10-smoke' if tiny else 'cifar10'}.yaml"
    content = yaml.safe_load(study.read_text(encoding="utf-8"))
    if not tiny:
        pieces, whole = sorted(DATA.glob("piece*.npz")), folder / "cifar10.npz"
        if not whole.exists() and len(pieces) < PIECES:
            return None
        if not whole.exists():
            found = [dict(np.load(piece)) for piece in pieces]
            joined: Any = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
            np.savez(whole, **joined)
        checksum = hashlib.sha256(whole.read_bytes()).hexdigest()
        arrays = {"name": "arrays", "path": whole.name, "sha256": checksum, "size": None}
        content["data"] = {**arrays, "validation": 0.0, "split_seed": 0}
        content["report"]["published"] = None
    content["runtime"]["device"] = "auto"
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return folder


def split(path: Path, out: Path) -> None:
    """Cut the arrays of an ``.npz`` by rows into pieces, each compressed as well as numpy can read it."""
    out.mkdir(parents=True, exist_ok=True)
    arrays = dict(np.load(path))
    for number in range(PIECES):
        with zipfile.ZipFile(out / f"piece{number}.npz", "w", zipfile.ZIP_LZMA) as archive:
            for name, array in arrays.items():
                part = io.BytesIO()
                np.save(part, np.array_split(array, PIECES)[number])
                archive.writestr(f"{name}.npy", part.getvalue())


def run(step: Step, out: Path, seconds: float) -> int:
    """A step's exit status, 124 where it takes longer; what it says is added to its file."""
    code = os.pathsep.join(
        map(str, (PROJECT, PROJECT / "workflow", *filter(None, [os.environ.get("PYTHONPATH")])))
    )
    with (out / step.says).open("a", encoding="utf-8") as log:
        log.write(f"# {step.name}\n")
        log.flush()
        try:
            return subprocess.run(
                step.command,
                cwd=step.folder,
                env={**os.environ, "PYTHONPATH": code},
                stdout=log,
                stderr=log,
                timeout=seconds,
            ).returncode
        except subprocess.TimeoutExpired:
            return 124


def main() -> int:
    """Exit status 0 where every step's was."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--split", type=Path, metavar="NPZ")
    options = parser.parse_args()
    out = options.out.resolve()
    if options.split:
        split(options.split, out)
        return 0
    out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * options.minutes
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    done: dict[str, object] = {"device": name, "torch": torch.__version__}
    for step in steps(options.steps, out, deadline, options.tiny):
        started = time.monotonic()
        seconds = deadline - started if options.tiny else min(step.seconds, deadline - started)
        status = run(step, out, seconds) if seconds > 0 else None
        took = time.monotonic() - started
        done[step.name] = {"status": status, "seconds": round(took, 1)}
        (out / "steps.json").write_text(json.dumps(done, indent=2), encoding="utf-8")
        print(f"{step.name:<24} status {status}, {took:.0f} s", flush=True)
    return int(any(isinstance(each, dict) and each["status"] != 0 for each in done.values()))


if __name__ == "__main__":
    sys.exit(main())
