"""Back-fill of MLflow: logs the missing runs of finished nodes, sets up the views, and serves the UI.

``moonshine track [study] [--ui [--port N]]``, from the repository root; all studies with results if none is named.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moonshine.errors import MoonshineError
from moonshine.files import read_json
from moonshine.structures.structure import MIXED
from moonshine_workflow.graph.mistakes import reports_mistakes
from moonshine_workflow.graph.nodes import EXAMPLES_FILE, RESULTS
from moonshine_workflow.tracking.runs import TrainedNode, read_node
from moonshine_workflow.tracking.store import (
    QUIET_MLFLOW,
    RunStore,
    TrackingError,
    active_runs,
    answering,
    is_remote,
    log_to,
    open_store,
    resolve_uri,
)
from moonshine_workflow.tracking.views import NOTE, View, experiment_tags, views

HOST = "127.0.0.1"
_IMAGES_TAG = "moonshine.pictures"
"""Tag of a run with the checksum of its example images."""


@dataclass(frozen=True)
class BackFill:
    """Result of a back-fill: runs logged now, runs already present, folders that could not be read."""

    study: str
    logged: int
    present: int
    malformed: tuple[str, ...]
    experiment_id: str
    views: tuple[View, ...]


def trained_folders(study_folder: Path) -> list[Path]:
    """Return the folders of a study's finished trained nodes, the teacher's first."""
    found = sorted(study_folder.glob("students/*/*/seed*/metrics.json"))
    return [path.parent for path in (study_folder / "teacher" / "metrics.json", *found) if path.is_file()]


def student_names(nodes: Sequence[TrainedNode]) -> dict[str, str]:
    """Return student -> display name: its block, its network if ordinary, its key if mixed or ambiguous."""
    students = {n.metrics.student: n.metrics for n in nodes if n.metrics.student != "teacher"}
    names = {key: m.network if m.block == "S" else m.block for key, m in students.items()}
    shared = Counter(names.values())
    return {key: name if shared[name] == 1 and name != MIXED else key for key, name in names.items()}


def back_fill(study_folder: Path, tracking_uri: str | None = None) -> BackFill:
    """Log every finished node of a study whose present result has no run, and set up the study's views.

    Raises TrackingError if the store does not answer. Does nothing for a study without results.
    """
    nodes, malformed = [], []
    for folder in trained_folders(study_folder):
        try:
            nodes.append(read_node(folder))
        except MoonshineError as error:
            malformed.append(str(error))
    if not nodes:
        return BackFill(study_folder.name, 0, 0, tuple(malformed), "", ())
    store = open_store(study_folder.name, tracking_uri)
    runs, logged = active_runs(store), 0
    for node in nodes:
        timings = study_folder / "timings" / f"{node.name}.json"
        logged += log_to(store, node, timings, runs.get(node.name, ()))[1]
    log_examples(study_folder, tracking_uri)
    found = views(student_names(nodes))
    _describe(store, experiment_tags(found, store.experiment_id))
    present = len(nodes) - logged
    return BackFill(study_folder.name, logged, present, tuple(malformed), store.experiment_id, tuple(found))


def log_examples(study_folder: Path, tracking_uri: str | None = None) -> None:
    """Log the example predictions of each network as images with its run, unless it has these already.

    Raises TrackingError if the store does not answer.
    """
    about = study_folder / "examples" / EXAMPLES_FILE
    drawn = [each["node"] for each in read_json(about)["networks"]] if about.is_file() else []
    if not drawn:
        return
    store = open_store(study_folder.name, tracking_uri)
    runs = active_runs(store)
    with answering(store.uri):
        for node in drawn:
            pictures = sorted(about.parent.glob(f"{node}-*.png"))
            content = hashlib.sha256(b"".join(path.read_bytes() for path in pictures)).hexdigest()
            for run in runs.get(node, ()):
                if run.data.tags.get(_IMAGES_TAG) != content:
                    for path in (*pictures, *sorted(about.parent.glob("truth-*.png"))):
                        store.client.log_artifact(run.info.run_id, str(path), "examples")
                    store.client.set_tag(run.info.run_id, _IMAGES_TAG, content)


def _describe(store: RunStore, wanted: dict[str, str]) -> None:
    """Set the experiment's tags that differ; a description written by the user is kept."""
    with answering(store.uri):
        present = store.client.get_experiment(store.experiment_id).tags
        opening = wanted[NOTE].partition("]")[0]
        for name, value in wanted.items():
            users_own = name == NOTE and not present.get(NOTE, opening).startswith(opening)
            if present.get(name) != value and not users_own:
                store.client.set_experiment_tag(store.experiment_id, name, value)


def check_port(port: int) -> None:
    """Raise MoonshineError if no server can listen on this port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise MoonshineError(f"--port {port}: cannot be opened ({error}); choose another port") from error


def serve(uri: str, port: int, studies: Sequence[BackFill]) -> None:
    """Print the addresses of the views and become the UI's server, until Ctrl-C.

    Another process logs nodes while they train; if the server is remote, this process does that instead.
    """
    server = f"{uri.rstrip('/')}/" if is_remote(uri) else f"http://{HOST}:{port}/"
    for study in studies:
        print(f"\n{study.study}:")
        for view in study.views:
            print(f"  {view.title}\n    {view.link(study.experiment_id, server)}")
    follow = [sys.executable, "-m", "moonshine_workflow.tracking.follow", uri]
    if is_remote(uri):
        print("\nNodes that train are logged until Ctrl-C.", flush=True)
        os.execv(sys.executable, follow)
    print("\nMLflow starts; open an address when it says that it is running.", flush=True)
    # without jobs, which are for language models, two server processes suffice instead of ten
    for name, value in {**QUIET_MLFLOW, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}.items():
        os.environ.setdefault(name, value)
    subprocess.Popen(follow)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    os.execv(sys.executable, [*command, "--backend-store-uri", uri, "--uvicorn-opts", "--no-access-log"])


def _study_folders(study: str | None) -> list[Path]:
    there = sorted(path for path in RESULTS.glob("[!.]*") if path.is_dir())
    if study is None:
        return there
    if RESULTS / study not in there:
        names = ", ".join(path.name for path in there) or "none"
        raise MoonshineError(f"study '{study}' has no folder in {RESULTS}/; found: {names}")
    return [RESULTS / study]


@reports_mistakes
def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 2 for invalid input, 0 otherwise, even if the store does not answer (a warning)."""
    parser = argparse.ArgumentParser(
        prog="moonshine track", description="Log finished nodes that are missing in MLflow."
    )
    parser.add_argument("study", nargs="?", help="a folder of results/; default: all of them")
    parser.add_argument(
        "--ui",
        action="store_true",
        help="then serve MLflow's UI and log nodes while they train; for a remote server only the latter",
    )
    parser.add_argument("--port", type=int, default=5000, help="port of the UI (default: %(default)s)")
    args = parser.parse_args(argv)
    uri = resolve_uri()
    try:
        if args.ui and not is_remote(uri):
            check_port(args.port)
        done = [back_fill(folder, uri) for folder in _study_folders(args.study)]
        for study in done:
            print(f"{study.study}: {study.logged} runs logged, {study.present} already in MLflow ({uri})")
        malformed = [problem for study in done for problem in study.malformed]
        if malformed:
            raise MoonshineError("\n".join(malformed))
        if args.ui:
            serve(uri, args.port, done)
    except TrackingError as error:
        print(
            f"warning: {error}; what is missing is logged by the next 'moonshine track'",
            file=sys.stderr,
        )
        return 0
    if not any(study.logged + study.present for study in done):
        print(f"no trained node in {RESULTS}/ yet")
    return 0


if __name__ == "__main__":
    sys.exit(main())
