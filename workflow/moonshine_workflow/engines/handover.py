"""handover: record one engine's finished work with the other, so that nothing runs twice.

Each engine keeps its own record of what was made from what. The record is copied only while it is true: the giving
engine must have nothing left to do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

from moonshine.config import Study, load_study
from moonshine.errors import MoonshineError, first_few
from moonshine_workflow.engines import dvc_state, snakemake_state
from moonshine_workflow.engines.status import survey
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.mistakes import reports_mistakes

ENGINES = ("snakemake", "dvc")
OTHERWISE = "run `snakemake` first, or, if DVC made them, `moonshine handover --from dvc`"


def hand_over(giver: str) -> str:
    """Copy the record of ``giver`` to the other engine; return a sentence on what was done.

    MoonshineError if ``giver`` would still run something, or if files are missing.
    """
    study = load_study()
    require_files(study)
    if giver == "snakemake":
        require_snakemake_done()
        require_same(study)
        if not dvc_state.changes():
            return "DVC already knows all of it"
        stamp_dvc()
    else:
        require_dvc_done()
        require_same(study)
        if snakemake_is_done(snakemake_state.jobs()):
            return "Snakemake already knows all of it"
        stamp_snakemake()
    count = len(nodes.all_nodes(study))
    taker = "DVC" if giver == "snakemake" else "Snakemake"
    return f"{taker} has the {count} nodes of the study {study.study}; it has nothing to do"


def require_files(study: Study) -> None:
    """MoonshineError for missing files, which neither engine would notice; data removed to save space are restored."""
    fetch = nodes.fetch(study.study)
    if (fetch.folder / "dataset.json").exists() and not fetch.is_done():
        from moonshine_workflow.training.prepared import load_prepared  # loads torch

        load_prepared(study)  # Snakemake, which has nothing left to do, would not
    missing = [path for node in nodes.all_nodes(study) for path in node.outputs if not path.exists()]
    if missing:
        raise MoonshineError(
            f"{len(missing)} files are missing: {first_few(missing, 5)}; finish the study first"
        )


def require_same(study: Study) -> None:
    """MoonshineError naming the nodes that were trained with other settings or data than the study's."""
    found = [f"{one.node.name} ({one.detail})" for one in survey(study) if one.state == "outdated"]
    if found:
        raise MoonshineError(
            f"{len(found)} nodes are not of this study: {first_few(found, 5)}; remove their folders, and run it again"
        )


def require_snakemake_done() -> None:
    """MoonshineError naming the nodes that Snakemake would run, or has no record of."""
    found = snakemake_state.jobs()
    due = [job.name for job in found if job.due]
    if due:
        raise MoonshineError(f"Snakemake has {len(due)} nodes left: {first_few(due, 5)}; {OTHERWISE}")
    unknown = [job.name for job in found if not job.recorded]
    if unknown:
        raise MoonshineError(
            f"Snakemake has no record of {len(unknown)} nodes: {first_few(unknown, 5)}; {OTHERWISE}"
        )


def require_dvc_done() -> None:
    """MoonshineError naming the nodes that DVC would run."""
    found = dvc_state.changes()
    if found:
        raise MoonshineError(
            f"DVC has {len(found)} nodes left: {first_few(found, 5)}; run `dvc repro` first, or, if Snakemake "
            "made them, `moonshine handover --from snakemake`"
        )


def snakemake_is_done(jobs: Sequence[snakemake_state.JobState]) -> bool:
    return all(job.recorded and not job.due for job in jobs)


def stamp_dvc(made: Sequence[nodes.Node] = ()) -> None:
    """Record the present files of these nodes, or of all, in ``dvc.lock``, and put them into DVC's cache."""
    names = [node.name for node in made]
    dvc_state.dvc("repro", "resolve")
    dvc_state.dvc("commit", "--force", "--quiet", *names)
    left = [name for name in dvc_state.changes() if name in names or not names]
    if left:
        raise MoonshineError(f"DVC still sees changes in {first_few(left, 5)}; `dvc status` says which")


def stamp_snakemake(made: Sequence[nodes.Node] = ()) -> None:
    """Record the present files of these nodes and of those before them, or of all, in Snakemake's metadata."""
    names = [node.name for node in made]
    files = [str(node.outputs[0]) for node in made] or ["all"]
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--touch",
        "--forceall",
        "--cores",
        "1",
        "--quiet",
        "all",
        "--",
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MoonshineError(f"snakemake --touch: {(done.stderr or done.stdout).strip()}")
    left = [
        job.name
        for job in snakemake_state.jobs()
        if (job.due or not job.recorded) and (job.name in names or not names)
    ]
    if left:
        raise MoonshineError(
            f"Snakemake still has {first_few(left, 5)} to do; `snakemake -n --quiet host` says why"
        )


@reports_mistakes
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="moonshine handover",
        description="Record one engine's finished work with the other, so that nothing runs twice.",
    )
    parser.add_argument(
        "--from", dest="giver", choices=ENGINES, required=True, help="the engine that ran the study"
    )
    print(hand_over(parser.parse_args(argv).giver))
    return 0


if __name__ == "__main__":
    sys.exit(main())
