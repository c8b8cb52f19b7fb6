"""``make smoke``: every smoke-test study, the whole graph, under both engines, which must leave the same tables.

    python -m tests.smoke.run [STUDY ...] [--cores N]

Each runs in a copy of the project's files in a temporary folder, one of them also in a folder that is no clone. Prints
seconds; fails where an engine does, or where the tables differ.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from moonshine_workflow.commands.initialising.project_files import project_files, write_project
from tests.workflow import tiny
from tests.workflow.clones import PROJECT, call, clone

STUDIES = sorted(path.stem for path in (PROJECT / "studies").glob("*-smoke.yaml"))
INSTALLED = "cifar10-smoke"
"""The study that also runs by the graph of the installed package."""
ENGINES = {"snakemake": ("snakemake", "--cores"), "dvc": ("moonshine_workflow.engines.parallel", "--jobs")}


def run(
    study: str, command: Sequence[str], root: Path, *, in_suite: bool = False, in_clone: bool = True
) -> tuple[float, dict[str, str]]:
    """Seconds, and the tables by name; RuntimeError with the engine's last words where it failed.

    ``in_suite`` saves time: nothing is logged to MLflow, and commands are forks that have imported torch. Where it is
    not ``in_clone``, the graph is that of the installed package, with the files of `moonshine init`.
    """
    folder = root / f"{study} {command[0]}"
    folder.mkdir()
    content = yaml.safe_load((PROJECT / "studies" / f"{study}.yaml").read_text(encoding="utf-8"))
    if in_clone:
        clone(folder, content, tracked=not in_suite)
    else:
        write_project(folder, project_files(folder))
        tiny.write_study(folder, content)
    started = time.monotonic()
    done = call(folder, *command, quick=in_suite)
    seconds = time.monotonic() - started
    results = folder / "results" / study
    if done.returncode or not (results / "report.html").is_file():
        said = (done.stdout + done.stderr).splitlines()[-25:]
        raise RuntimeError("\n".join([f"{study} under {command[0]} failed:", *said]))
    return seconds, {path.name: path.read_text() for path in sorted((results / "tables").iterdir())}


def main(argv: list[str] | None = None) -> int:
    """Run the studies named, or all; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.smoke.run", description=__doc__)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"of {', '.join(STUDIES)}; default: all")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.studies) - set(STUDIES):
        parser.error(f"{', '.join(sorted(unknown))}: no such study; there are {', '.join(STUDIES)}")
    failed = 0
    places = [(study, True) for study in arguments.studies or STUDIES]
    places += [] if arguments.studies else [(INSTALLED, False)]
    for study, in_clone in places:
        with TemporaryDirectory(prefix="moonshine-smoke-") as root:
            tables = {}
            for engine in ENGINES:
                try:
                    command = (*ENGINES[engine], str(arguments.cores))
                    seconds, tables[engine] = run(study, command, Path(root), in_clone=in_clone)
                except RuntimeError as error:
                    print(error, file=sys.stderr)
                    failed += 1
                else:
                    where = "" if in_clone else "  graph of the installed package"
                    print(f"{study:<20}{engine:<12}{seconds:6.1f} s{where}", flush=True)
            if len(tables) == len(ENGINES) and tables["snakemake"] != tables["dvc"]:
                print(f"{study}: the engines' tables differ", file=sys.stderr)
                failed += 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
