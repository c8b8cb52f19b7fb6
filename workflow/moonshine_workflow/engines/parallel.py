"""repro: ``dvc repro`` with several stages at a time.

DVC runs one stage at a time, and two plain ``dvc repro`` stop each other: each locks the files of everything before
its target. Here each stage that is not up to date is one ``dvc repro --single-item``, started when those before it
are done.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from moonshine.config import load_study
from moonshine.errors import MoonshineError
from moonshine_workflow.engines import dvc_state
from moonshine_workflow.engines.rules import path_with_this_python
from moonshine_workflow.engines.status import workers
from moonshine_workflow.graph.mistakes import reports_mistakes

TAIL = 20


@dataclass(frozen=True)
class Outcome:
    """Result of a stage, with the output of DVC and the stage."""

    stage: str
    seconds: float
    failed: bool
    output: str


def repro(jobs: int) -> int:
    """Bring every stage up to date, at most ``jobs`` at once; returns how many failed.

    After a failure nothing new starts, and what runs is waited for. Errors: ``MoonshineError`` when DVC cannot tell
    what is to be done, as while Snakemake runs.
    """
    dvc_state.dvc("repro", "resolve")  # a single stage is run without those before it
    waiting = due()
    total, done, failed = len(waiting), 0, 0
    if not total:
        print("Data and pipelines are up to date.")
    running: set[Future[Outcome]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        while running or (waiting and not failed):
            ready = [stage for stage, before in waiting.items() if not before]
            for stage in ready[: jobs - len(running)] if not failed else ():
                del waiting[stage]
                print(f"start {stage}", flush=True)
                running.add(pool.submit(_run, stage))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for outcome in (future.result() for future in ended):
                done += 1
                failed += outcome.failed
                waiting = {stage: before - {outcome.stage} for stage, before in waiting.items()}
                _report(outcome, done, total)
    return failed


def due() -> dict[str, frozenset[str]]:
    """Return the stages that DVC would run, each with those it waits for. Errors as for `dvc_state.changes`."""
    return stages_due(set(dvc_state.changes()), stage_graph())


def stages_due(changed: set[str], graph: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return the stages to run, each with those it waits for, ordered by the number of stages that wait for them.

    ``graph`` has the stages that each stage directly depends on. A stage runs when it, or one before it, changed.
    """
    due: set[str] = set(changed)
    while True:
        more = {stage for stage, before in graph.items() if stage not in due and before & due}
        if not more:
            break
        due |= more
    followers = {stage: sum(stage in before for before in graph.values()) for stage in due}
    return {stage: graph[stage] & due for stage in sorted(due, key=lambda name: (-followers[name], name))}


def stage_graph() -> dict[str, frozenset[str]]:
    """Return the stages in dvc.yaml, each with its direct dependencies."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            graph = repo.index.graph
            return {stage.addressing: frozenset(one.addressing for one in graph[stage]) for stage in graph}
    except DvcException as error:
        raise MoonshineError(f"DVC: {error}") from None


def _run(stage: str) -> Outcome:
    """Run one stage with its own DVC process and keep its output, which is also in the stage's log."""
    started = time.monotonic()
    # without --wait-for-lock DVC gives up after seconds, even with a finished training in hand
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "PATH": path_with_this_python()},
    )
    return Outcome(stage, time.monotonic() - started, bool(done.returncode), done.stdout)


def _report(outcome: Outcome, done: int, total: int) -> None:
    ended = "FAILED" if outcome.failed else "done"
    print(f"[{done}/{total}] {outcome.stage}: {ended} in {outcome.seconds:.1f} s", flush=True)
    if outcome.failed:
        print("\n".join(outcome.output.splitlines()[-TAIL:]), file=sys.stderr, flush=True)


@reports_mistakes
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="moonshine repro", description="Run dvc repro with several stages at a time."
    )
    parser.add_argument(
        "--jobs",
        type=int,
        help="stages at a time (default: the cores divided by runtime.threads)",
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="print the stages that would run")
    arguments = parser.parse_args(argv)
    try:
        if arguments.dry_run:
            print("\n".join(due()) or "Data and pipelines are up to date.")
            return 0
        jobs = workers(load_study()) if arguments.jobs is None else arguments.jobs
        if jobs < 1:
            raise MoonshineError(f"--jobs: found {jobs}; expected 1 or more")
        return int(repro(jobs) > 0)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
