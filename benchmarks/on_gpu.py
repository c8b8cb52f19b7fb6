"""What only a machine with a GPU can show, step by step; whatever a step leaves is kept when the next one fails.

    python benchmarks/on_gpu.py --out FOLDER [--minutes 25] [--steps tests estimates ...]

For a machine that is lent for minutes and has torch, but perhaps neither an engine nor MLflow. In this order:

* tests: those of data, training and devices, with the ones that need a GPU;
* estimates: `moonshine estimate STUDY --save` for the four benchmarks, from which any machine can print their costs;
* smoke: every small twin, all nodes that train, on the GPU (run_nodes.py), and, where there are two GPUs, one of them
  with a network on both and synchronised batch norm;
* loading: images per second by workers.

Each step has a log and, in FOLDER/steps.json, its exit status and seconds. Run it again for single --steps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

PROJECT = Path(__file__).parents[1]
BENCHMARKS = ("cifar10", "cifar100", "cityscapes", "imagenet")
WORKERS = ("1", "4", "8", "16")
STEPS = ("tests", "estimates", "smoke", "loading")


@dataclass(frozen=True)
class Step:
    """A command, and the folder in which it runs."""

    name: str
    command: tuple[str, ...]
    folder: Path = PROJECT


def steps(kinds: list[str], out: Path) -> Iterator[Step]:
    """The steps of these kinds, in order."""
    if "tests" in kinds:
        places = (
            "tests/moonshine/data",
            "tests/moonshine/training",
            "tests/workflow/training/test_devices.py",
        )
        yield Step("tests", (sys.executable, "-m", "pytest", "-q", "-rs", *places))
    if "estimates" in kinds:
        for study in BENCHMARKS:
            save = ("--save", str(out / f"{study}.json"))
            yield Step(
                f"estimate-{study}",
                (sys.executable, "-m", "moonshine_workflow.cli", "estimate", f"studies/{study}.yaml", *save),
            )
    if "smoke" in kinds:
        for path in sorted((PROJECT / "studies").glob("*-smoke.yaml")):
            yield smoke(path, out, 1)
        if torch.cuda.device_count() > 1:
            yield smoke(PROJECT / "studies" / "cifar10-smoke.yaml", out, 2)
    if "loading" in kinds:
        yield Step("loading", (sys.executable, "benchmarks/loading.py", "--workers", *WORKERS))


def smoke(study: Path, out: Path, devices: int) -> Step:
    """A small twin in a folder of its own, with its networks on so many devices."""
    name = study.stem if devices == 1 else f"{study.stem}-on-{devices}"
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_load(study.read_text(encoding="utf-8"))
    content["runtime"]["device"] = "auto"
    if devices > 1:
        content["training"] |= {"devices": devices, "sync_batch_norm": True}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    command = (sys.executable, str(PROJECT / "benchmarks" / "run_nodes.py"), "--minutes", "5")
    return Step(name, command, folder)


def run(step: Step, out: Path, seconds: float) -> int:
    """A step's exit status, 124 where it takes longer; its output is in its log."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with (out / f"{step.name}.log").open("w", encoding="utf-8") as log:
        try:
            return subprocess.run(
                step.command, cwd=step.folder, env=environment, stdout=log, stderr=log, timeout=seconds
            ).returncode
        except subprocess.TimeoutExpired:
            return 124


def main() -> int:
    """Exit status 0 where every step's was."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * options.minutes
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    done: dict[str, object] = {"device": name, "torch": torch.__version__}
    for step in steps(options.steps, out):
        started = time.monotonic()
        status = run(step, out, max(1.0, deadline - started))
        done[step.name] = {"status": status, "seconds": round(time.monotonic() - started, 1)}
        (out / "steps.json").write_text(json.dumps(done, indent=2), encoding="utf-8")
        print(f"{step.name:<24} status {status}, {time.monotonic() - started:.0f} s", flush=True)
    return int(any(isinstance(each, dict) and each["status"] for each in done.values()))


if __name__ == "__main__":
    sys.exit(main())
