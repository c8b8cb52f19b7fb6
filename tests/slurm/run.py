"""``make test-slurm``: a small study through profiles/slurm on a cluster made for it, its jobs interrupted on purpose.

Each of the three networks it trains is interrupted after its second epoch, in one way each: the teacher's job is
killed, scratch is preempted, distil runs out of time. All have to continue where they were.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.slurm.cluster import Refused, daemon, end_once, free_port, ignore_signals, one_node_cluster

PROJECT = Path(__file__).parents[2]
EPOCHS = 12
MINUTES = 40
SNAKEMAKE = (
    *("snakemake", "--workflow-profile", "profiles/slurm", "--slurm-no-account"),
    # there is no accounting here, and jobs are short
    *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"),
    *("--seconds-between-status-checks", "2", "--latency-wait", "20"),
)


@dataclass
class Attempt:
    """One job of a node: its time limit, and what it takes of a GPU."""

    job: str
    limit: str
    gpu: str


@dataclass
class Story:
    """The study while it runs; a node's attempts are in the order in which they were seen."""

    folder: Path
    environment: dict[str, str]
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    interrupted: dict[str, int] = field(default_factory=dict)

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def must(self, *command: str) -> str:
        done = self.call(*command)
        if done.returncode:
            raise AssertionError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def watch(self) -> None:
        """Note the running jobs; interrupt a node's first one when two epochs are behind it."""
        for line in self.must("squeue", "--noheader", "--states=R", "--format=%i|%k").splitlines():
            job, comment = line.split("|")
            stage = comment.removeprefix("rule_").partition("_wildcards_")[0]
            seen = self.attempts.setdefault(stage, [])
            if job not in [attempt.job for attempt in seen]:
                shown = self.must("scontrol", "--oneliner", "show", "job", job).split()
                about = dict(word.split("=", 1) for word in shown if "=" in word)
                gpu = about.get("TresPerJob") or about.get("TresPerNode") or "no gpu"
                seen.append(Attempt(job, about["TimeLimit"], gpu))
                say(f"{stage}: job {job}, {about['TimeLimit']}, {gpu}")
            if stage in INTERRUPTIONS and stage not in self.interrupted and (epoch := self.epoch(stage)) >= 2:
                self.interrupted[stage] = epoch
                what, commands = INTERRUPTIONS[stage]
                say(f"{stage}: job {job} {what} after epoch {epoch} of {EPOCHS}")
                for command in commands(job):
                    self.must(*command)

    def found(self, folder: str, stage: str, name: str = "") -> list[Path]:
        """The files of a stage's only node in a folder of the results."""
        return sorted((self.folder / "results" / "digits" / folder).glob(f"{stage}@*{name}"))

    def epoch(self, stage: str) -> int:
        """The last epoch with a checkpoint."""
        made = self.found(".work", stage, "/epoch-*.json")
        return max((int(path.stem.partition("-")[2]) + 1 for path in made), default=0)


# What happens to a job that is killed, whose node is needed, and whose time is over. SLURM looks at the clock twice a
# minute, and then wakes the job to end it: training, which would be over by then, is put to sleep.
INTERRUPTIONS: dict[str, tuple[str, Callable[[str], list[list[str]]]]] = {
    "teacher": ("is killed", lambda job: [["scancel", "--signal=KILL", "--full", job]]),
    "scratch": ("is preempted", lambda job: [["scontrol", "requeue", job]]),
    "distil": (
        "runs out of time",
        lambda job: [
            ["scancel", "--signal=STOP", job],
            ["scontrol", "update", f"JobId={job}", "EndTime=now+1"],
        ],
    ),
}


def main() -> int:
    started = time.monotonic()
    try:
        refuse()
        end_once()
        with ExitStack() as undo:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="moonshine-slurm-")))
            say("installs SLURM where it is missing, and starts it")
            environment = undo.enter_context(one_node_cluster(folder))
            say(f"{subprocess.check_output(['slurmctld', '-V'], text=True).strip()} is up")
            tell(folder, environment, undo)
            ignore_signals()
    except Refused as error:
        print(f"test-slurm: {error}", file=sys.stderr)
        return 2
    say(f"passed in {time.monotonic() - started:.0f} s; what was installed for it is removed again")
    return 0


def refuse() -> None:
    """Leave machines alone that are somebody's cluster or not ours to install on; FORCE=1 goes on."""
    told = os.environ.get("FORCE") == "1"
    if (found := configurations()) and not told:
        raise Refused(
            f"found {found[0]}: this machine is part of a cluster; FORCE=1 starts another one beside it"
        )
    if os.geteuid() != 0:
        if not told:
            raise Refused("it installs Debian packages, so it is for root; FORCE=1 goes through sudo")
        if shutil.which("sudo") is None:
            raise Refused("it installs Debian packages, so it is for root, and there is no sudo")
        # sudo has a PATH of its own
        path = f"PATH={os.environ['PATH']}"
        os.execvp("sudo", ["sudo", "env", path, "FORCE=1", sys.executable, "-m", "tests.slurm.run"])


def configurations() -> list[str]:
    """Where SLURM keeps, or is told, what cluster a machine belongs to."""
    places = ("etc/slurm*", "usr/local/etc", "usr/local/etc/slurm", "opt/slurm*/etc", "run/slurm/conf")
    named = os.environ.get("SLURM_CONF")
    return [*([f"SLURM_CONF={named}"] if named else [])] + [
        str(path) for place in places for path in sorted(Path("/").glob(f"{place}/slurm.conf"))
    ]


def tell(folder: Path, cluster: dict[str, str], undo: ExitStack) -> None:
    """Run the study, interrupt it, check what came out."""
    port = free_port()
    server = f"http://127.0.0.1:{port}"
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(PROJECT), str(clone)], check=True)
    write_study(clone)
    environment = {
        **cluster,
        "MLFLOW_TRACKING_URI": server,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / "dvc"),
    }
    store = (
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        f"{folder}/mlflow",
    )
    where = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    undo.enter_context(daemon(folder / "mlflow.log", environment, "mlflow", "server", *store, *where))
    story, refused = Story(clone, environment), ""
    say("snakemake --workflow-profile profiles/slurm, in a clone of HEAD")
    with (folder / "snakemake.log").open("w") as log:
        run = subprocess.Popen(
            SNAKEMAKE, cwd=clone, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 60 * MINUTES
            while run.poll() is None:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not finished in {MINUTES} minutes")
                story.watch()
                if story.attempts and not refused:
                    refused = story.call("dvc", "repro").stderr
                    assert "Unable to acquire lock" in refused, f"DVC runs beside Snakemake: {refused}"
                    say("dvc repro is refused meanwhile")
                time.sleep(1)
            check(story, run.returncode, server)
        except BaseException:
            print((folder / "snakemake.log").read_text()[-10000:], file=sys.stderr)
            raise
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()


def write_study(clone: Path) -> None:
    """The default study with one student, one method and one seed, and epochs enough to interrupt."""
    study = yaml.safe_load((clone / "studies" / "digits.yaml").read_text())
    study["students"] = {"G4": {"block": "G(4)"}}
    study["methods"] = {"at": study["methods"]["at"]}
    study["seeds"] = [0]
    study["training"]["epochs"] = EPOCHS
    study["runtime"]["device"] = "auto"  # the cluster's GPUs are none that CUDA finds
    (clone / "params.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    # one of the networks takes a share of a GPU
    profile = clone / "profiles" / "slurm" / "profile.yaml"
    with profile.open("a") as added:
        added.write('\nset-resources:\n  scratch: {gpu: 0, gres: "shard:1"}\n')


def check(story: Story, status: int, server: str) -> None:
    assert status == 0, f"snakemake ended with status {status}"
    assert (story.folder / "results" / "digits" / "report.html").is_file(), "there is no report"
    assert story.interrupted.keys() == INTERRUPTIONS.keys(), f"interrupted: {story.interrupted}"
    for stage, epoch in story.interrupted.items():
        timing = json.loads(story.found("timings", stage)[0].read_text())
        log = story.found("logs", stage)[0].read_text()
        (line,) = [line for line in log.splitlines() if "continues after epoch" in line]
        after = int(line.split()[4])
        assert timing["resumed"] == 1, f"{stage}: resumed {timing['resumed']} times"
        assert timing["engine"] == "snakemake", timing
        assert epoch <= after < EPOCHS, f"{stage}: {line}"
        attempts = story.attempts[stage]
        say(f"{stage} {line.partition(': ')[2]}, resumed: {timing['resumed']}")
        # preempted is the same job to SLURM; the others were submitted again, with more time
        limits = ["04:00:00"] if stage == "scratch" else ["04:00:00", "08:00:00"]
        assert [attempt.limit for attempt in attempts] == limits, attempts
        assert {attempt.gpu for attempt in attempts} == {
            "gres:shard:1" if stage == "scratch" else "gres:gpu:1"
        }
    left = story.must("snakemake", "--dry-run")
    assert "Nothing to be done" in left, f"snakemake here would run more:\n{left}"
    runs = logged(server)
    assert sorted(runs) == ["FINISHED"] * 3, f"runs in MLflow: {runs}"
    say("MLflow's server has the three runs; for snakemake here, nothing is left to do")


def logged(server: str) -> list[str]:
    """The states of the runs of the study in a tracking server."""
    found = ask(server, "experiments/search", {"max_results": 100})["experiments"]
    (experiment,) = [each["experiment_id"] for each in found if each["name"] == "digits"]
    runs = ask(server, "runs/search", {"experiment_ids": [experiment]})["runs"]
    return [run["info"]["status"] for run in runs]


def ask(server: str, what: str, content: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{server}/api/2.0/mlflow/{what}",
        json.dumps(content).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
