"""Seconds that the engines take to find that there is nothing to do, and to plan the largest study.

    python benchmarks/engines.py [--runs 3]

Run it from a clone whose study is complete under both engines (``make reproduce``, then
``moonshine handover --from snakemake``). Each command is timed as a whole process; the median is printed with the
range. ``snakemake -n`` on the full CIFAR-10 study runs in a temporary copy of the sources.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SOURCES = ("Snakefile", "workflow", "moonshine", "profiles", "notebooks", "studies", "pyproject.toml")


def timed(command: list[str], folder: Path, expected: str) -> float:
    """Wall seconds of ``command``; stops the benchmark when its output does not hold ``expected``."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    elapsed = time.perf_counter() - start
    if done.returncode or expected not in done.stdout + done.stderr:
        raise SystemExit(f"{' '.join(command)}: did not say '{expected}':\n{done.stdout}\n{done.stderr}")
    return elapsed


def main() -> None:
    """Print a line per command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for source in SOURCES:
            if (PROJECT / source).is_dir():
                shutil.copytree(PROJECT / source, copy / source, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(PROJECT / source, copy / source)
        shutil.copy(PROJECT / "studies" / "cifar10.yaml", copy / "params.yaml")
        cases = {
            "second snakemake": (["snakemake", "--cores", "2"], PROJECT, "Nothing to be done"),
            "second dvc repro": (["dvc", "repro"], PROJECT, "didn't change, skipping"),
            "snakemake -n, cifar10": (["snakemake", "-n"], copy, "dry-run"),
        }
        for label, (command, folder, expected) in cases.items():
            values = [timed(command, folder, expected) for _ in range(options.runs)]
            print(
                f"{label:<22} {statistics.median(values):5.2f} s   ({min(values):.2f} to {max(values):.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
