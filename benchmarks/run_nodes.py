"""Run the nodes of the study in params.yaml one after another, without an engine, until a time limit.

    python benchmarks/run_nodes.py --minutes 9 [--keep $OUT]

For a machine that is lent for minutes and has torch but neither Snakemake nor DVC, such as one with a GPU. Nodes that
are done are passed over, so calling it again continues; a node that the limit cuts short continues from its last
checkpoint. The teacher comes first, then seed by seed, so that an early end leaves whole seeds. ``--keep`` packs what
another machine needs to go on, and what tables are made from, into ``results.tar.gz.0``, ``.1``, ... of at most 15 MB,
anew after each node: without prepared data and the weights of finished students. Put there before, they are unpacked
first.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from moonshine.config import Study, load_study
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.check import check_study

PART = 15_000_000
"""Most bytes of a file that is sent back from there."""
WEIGHTS = "weights.safetensors"


def in_order(study: Study) -> list[nodes.Node]:
    """Every node but the tables and what is made from them, which an engine makes later."""
    later = ("collect", "export", "examples", "report")
    found = [node for node in nodes.all_nodes(study) if node.stage not in later]
    # structures and costs take no time; of what trains, the teacher is first and seeds stay together
    return sorted(
        found, key=lambda node: (node.trains, node.stage != "teacher", (node.trains and node.seed) or 0)
    )


def is_done(node: nodes.Node) -> bool:
    """Whether a node has run, here or elsewhere, from where the weights of students do not come back."""
    return all(path.exists() for path in node.outputs if node.stage == "teacher" or path.name != WEIGHTS)


def run(node: nodes.Node, seconds: float) -> bool:
    """Run one node's command; False when it fails or the time is over."""
    try:
        done = subprocess.run([sys.executable, *node.command], timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def keep(study: Study, folder: Path) -> None:
    """Pack the study's results, checkpoints included."""
    root = nodes.RESULTS / study.study
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            left_out = path.name in nodes.DATA_FILES[:1] or (
                path.name == WEIGHTS and inside.parts[0] != "teacher"
            )
            if path.is_file() and not left_out:
                archive.add(path)
    for old in folder.glob("results.tar.gz.*"):
        old.unlink()
    content = packed.getvalue()
    for number, start in enumerate(range(0, len(content), PART)):
        (folder / f"results.tar.gz.{number}").write_bytes(content[start : start + PART])


def unpack(folder: Path) -> None:
    """Unpack what `keep` has packed, if it has."""
    parts = sorted(folder.glob("results.tar.gz.*"), key=lambda path: int(path.suffix[1:]))
    if parts:
        packed = io.BytesIO(b"".join(path.read_bytes() for path in parts))
        with tarfile.open(fileobj=packed) as archive:
            archive.extractall(filter="data")


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
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        unpack(options.keep)
    for node in in_order(study):
        if is_done(node):
            continue
        went_well = run(node, max(0.0, deadline - time.monotonic()))
        if options.keep:
            keep(study, options.keep)
        if not went_well:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
