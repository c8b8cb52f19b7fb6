"""Seconds of ``moonshine plan`` on ResNet-34 at 224x224 with the paper's 21 blocks: at first, and latencies cached.

    python benchmarks/plan.py [--runs 3] [--model torchvision/resnet34]

Each run is a whole process. The cache is a temporary folder, so the first run measures the latencies.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Wall seconds of a command, which must succeed."""
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the first run's seconds, and the median of the others."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="torchvision/resnet34")
    options = parser.parse_args()
    command = [
        sys.executable,
        "-m",
        "moonshine_workflow.cli",
        "plan",
        "--model",
        options.model,
        "--budget",
        "12MB",
    ]
    command += ["--input", "3x224x224", "--classes", "1000"]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        print(f"first, measuring latencies: {timed(command, environment):.1f} s", flush=True)
        values = [timed(command, environment) for _ in range(options.runs)]
    print(
        f"with latencies cached: {statistics.median(values):.1f} s ({min(values):.1f} to {max(values):.1f})"
    )


if __name__ == "__main__":
    main()
