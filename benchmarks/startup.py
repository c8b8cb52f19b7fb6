"""Seconds from the start of a training process to its first optimiser step, and what they are spent on.

    python benchmarks/startup.py [--runs 5]

Runs ``moonshine_workflow.stages.teacher`` on digits in a temporary folder, as an engine would, up to its first step.
The clock starts when the kernel created the process. The median of the runs is printed with their range, beside bare
``import torch``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]
CODE = os.pathsep.join(map(str, (PROJECT, PROJECT / "workflow")))

FIRST_STEP = """
import os, sys, time
import psutil
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.stages import teacher
from moonshine_workflow.training.progress import Progress

def first(self, done, total):
    print(time.time() - psutil.Process().create_time(), "mlflow" in sys.modules, flush=True)
    os._exit(0)

Progress.batch = first
stage.main(teacher.run, nodes.teacher, ["--study", "digits"])
"""
IMPORT_TORCH = """
import time, psutil, torch
print(time.time() - psutil.Process().create_time(), False)
"""


def seconds(program: str, folder: Path) -> float:
    """Run ``program`` in ``folder``; the first word it prints is a number of seconds."""
    environment = {**os.environ, "PYTHONPATH": CODE, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found, mlflow = done.stdout.split()
    if mlflow == "True":
        raise SystemExit("MLflow was imported before the first step")
    return float(found)


def main() -> None:
    """Print the median and range of both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "params.yaml").write_bytes((PROJECT / "studies" / "digits.yaml").read_bytes())
        environment = {**os.environ, "PYTHONPATH": CODE}
        for stage in ("fetch", "structure_teacher"):
            subprocess.run(
                [sys.executable, "-m", f"moonshine_workflow.stages.{stage}", "--study", "digits"],
                cwd=folder,
                env=environment,
                check=True,
            )
        programs = {"import torch": IMPORT_TORCH, "to the first step": FIRST_STEP}
        found: dict[str, list[float]] = {label: [] for label in programs}
        for _ in range(options.runs):
            for label, program in programs.items():
                found[label].append(seconds(program, folder))
    for label, values in found.items():
        print(f"{label:<18} {statistics.median(values):5.2f} s   ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
