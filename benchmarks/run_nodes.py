"""Run the nodes of the study in params.yaml one after another, without an engine, until a time limit.

    python benchmarks/run_nodes.py --minutes 9 [--keep $OUT]

For a machine that is lent for minutes and has torch but neither Snakemake nor DVC, such as one with a GPU. Nodes that
are done are passed over, so calling it again continues; a node that the limit cuts short continues from its last
checkpoint. ``--keep`` copies the small files of every finished node (no weights but the teacher's) into one archive
there, anew after each node. The teacher comes first, then seed by seed, so that an early end leaves whole seeds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from moonshine.config import Study, load_study
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.check import check_study


def in_order(study: Study) -> list[nodes.Node]:
    """Every node but the tables and what is made from them, which an engine makes later."""
    later = ("collect", "export", "examples", "report")
    found = [node for node in nodes.all_nodes(study) if node.stage not in later]
    # structures and costs take no time; of what trains, the teacher is first and seeds stay together
    return sorted(
        found, key=lambda node: (node.trains, node.stage != "teacher", (node.trains and node.seed) or 0)
    )


def run(node: nodes.Node, seconds: float) -> bool:
    """Run one node's command; False when it fails or the time is over."""
    try:
        done = subprocess.run([sys.executable, *node.command], timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def keep(study: Study, folder: Path) -> None:
    """One archive of what tables and reports are made from."""
    root = nodes.RESULTS / study.study
    part = folder / "results.tar.gz.part"
    with tarfile.open(part, "w:gz") as archive:
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            big = path.suffix == ".safetensors" and inside.parts[0] != "teacher"
            if path.is_file() and not big and inside.parts[0] != ".work":
                archive.add(path)
    part.replace(folder / "results.tar.gz")


def main() -> int:
    """Exit status 0 when everything is done, 1 when something is left."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    study = load_study()
    check_study(study)
    deadline = time.monotonic() + 60 * options.minutes
    for node in in_order(study):
        if node.is_done():
            continue
        if not run(node, max(0.0, deadline - time.monotonic())):
            return 1
        if options.keep:
            keep(study, options.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
