"""restamp: record finished results as made by the present code, after a change that its author declares harmless.

Trained nodes depend on the library files that define their numbers, so a corrected docstring would train them again.
This moves the engines' records instead. Only code may differ: parameters, data and outputs are checked. The tables and
the report are made anew, and the report says that this was used.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from moonshine.config import Study, load_study
from moonshine.errors import MoonshineError, first_few
from moonshine.files import read_json_list, write_bytes
from moonshine_workflow.engines import dvc_state, snakemake_state
from moonshine_workflow.engines.handover import require_files, stamp_dvc, stamp_snakemake
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.library import library_root
from moonshine_workflow.graph.mistakes import reports_mistakes

CODE = ("moonshine", "workflow", "notebooks")
# Cheap, so they run again instead.
REMADE = ("collect", "report")


def restamp(reason: str) -> list[str]:
    """Stamp the records of every engine that differs from the files here in nothing but code; returns the nodes.

    Errors: ``MoonshineError`` when there is nothing to stamp, or more than code differs; nothing is changed then.
    """
    if not reason.strip():
        raise MoonshineError("--reason: found nothing; say in a few words why no number can have changed")
    study = load_study()
    require_files(study)
    stale: set[str] = set()
    refusals, stamps = [], []
    for engine, find, stamp in (
        ("Snakemake", _snakemake, stamp_snakemake),
        ("DVC", _dvc, stamp_dvc),
    ):
        found, refusal = find()
        if refusal:
            refusals.append(f"{engine}: {refusal}")
        else:
            stale |= found
            stamps.append(stamp)
    if not stamps:
        raise MoonshineError("more than code differs. " + "; ".join(refusals))
    stale = {name for name in stale if not name.startswith(REMADE)}
    if not stale:
        raise MoonshineError(
            "; ".join(["nothing to restamp: every node was made by the present code", *refusals])
        )
    for refusal in refusals:
        print(f"left alone, {refusal}", file=sys.stderr)
    _declare(study, reason.strip(), sorted(stale))
    for stamp in stamps:
        stamp()
    return sorted(stale)


def _snakemake() -> tuple[set[str], str]:
    """The nodes whose code differs from Snakemake's record, or why more than code does."""
    jobs = snakemake_state.jobs()
    unknown = [job.name for job in jobs if not job.recorded]
    if unknown:
        return set(), f"no record of {first_few(unknown, 5)}"
    for job in jobs:
        others = [*job.other_changes, *_not_code(job.changed_inputs)]
        if others:
            return set(), f"{job.name} differs in {first_few(others, 5)}"
    return {job.name for job in jobs if job.changed_inputs}, ""


def _dvc() -> tuple[set[str], str]:
    """The same for DVC's record."""
    changes = dvc_state.changes()
    for stage, change in changes.items():
        others = [*change.others, *_not_code(change.inputs)]
        if others:
            return set(), f"{stage} differs in {first_few(others, 5)}"
    return set(changes), ""


def _not_code(paths: Iterable[str]) -> list[str]:
    root = library_root()
    code = tuple(f"{(root / folder).as_posix()}/" for folder in CODE)
    return sorted(path for path in paths if not path.startswith(code))


def _declare(study: Study, reason: str, names: Sequence[str]) -> None:
    """Add this use to the study's list, and make the tables and the report, which shows the list, anew."""
    path = nodes.RESULTS / study.study / "restamps.json"
    before = path.read_bytes() if path.is_file() else b"[]"
    use = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason, "nodes": list(names)}
    uses = [*(read_json_list(path) if path.is_file() else []), use]
    write_bytes(path, (json.dumps(uses, indent=1) + "\n").encode())
    for stage in REMADE:
        done = subprocess.run(
            [sys.executable, "-m", f"moonshine_workflow.stages.{stage}", "--study", study.study], check=False
        )
        if done.returncode:
            write_bytes(path, before)
            raise MoonshineError(f"{stage} failed, so nothing was restamped")


@reports_mistakes
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="moonshine restamp",
        description="Record finished results as made by the present code, after a change that cannot alter a number.",
    )
    parser.add_argument(
        "--reason", required=True, help="why no number can have changed, such as 'docstring only'"
    )
    names = restamp(parser.parse_args(argv).reason)
    print(f"restamped {len(names)} nodes: {first_few(names, 5)}; the report says so")
    return 0


if __name__ == "__main__":
    sys.exit(main())
