"""Live logging to MLflow of nodes that train, by one process beside the UI: ``moonshine track --ui``.

Training does not use MLflow, whose import takes seconds and 150 MB and whose server may hang. Instead a node writes its
epochs to a file, and this process follows these files, whatever the engine.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from moonshine.errors import MoonshineError
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.stage import is_at_work
from moonshine_workflow.tracking.back_fill import back_fill
from moonshine_workflow.tracking.runs import RunningNode, epoch_points
from moonshine_workflow.tracking.store import (
    TrackingError,
    active_runs,
    answering,
    log_points,
    open_store,
    start_run,
)

SECONDS_BETWEEN = 2.0


class Follower:
    """Logs what training nodes have written since it last looked; several followers would each make their own runs."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._seen: dict[Path, RunningNode] = {}
        self._runs: dict[Path, str] = {}

    def look(self) -> None:
        """Log new epochs; mark the run of a node that has ended as killed, or replace it if the node finished.

        Raises TrackingError if the store does not answer; the next call logs what is missing.
        """
        running = [
            path
            for path in sorted(nodes.RESULTS.glob(f"*/.work/*/{nodes.RUNNING}"))
            if is_at_work(path.parent)
        ]
        ended = self._runs.keys() - running
        for path in ended:
            with answering(self._uri):
                store = open_store(self._seen[path].identity.study, self._uri)
                store.client.set_terminated(self._runs[path], "KILLED")
            del self._runs[path], self._seen[path]
        for study in {path.parts[1] for path in ended}:
            back_fill(nodes.RESULTS / study, self._uri)
        for path in running:
            try:
                self._log(path)
            except TrackingError:  # if the run was deleted, say: the next call makes another
                self._seen.pop(path, None)
                self._runs.pop(path, None)
                raise

    def _log(self, path: Path) -> None:
        try:
            node = RunningNode.read(path)
        except MoonshineError:  # the node has just ended
            return
        store, before = open_store(node.identity.study, self._uri), self._seen.get(path)
        with answering(self._uri):
            if before is None or before.started != node.started:
                for run in active_runs(store, node.identity.node).get(node.identity.node, ()):
                    store.client.delete_run(run.info.run_id)
                self._runs[path] = start_run(store, node.identity, node.config, int(1000 * node.started))
                before = None
            rows = node.rows[len(before.rows) if before else 0 :]
            log_points(store, self._runs[path], epoch_points(rows), int(1000 * time.time()))
        self._seen[path] = node


def main(uri: str) -> None:
    """Follow the nodes of the working directory until the parent process ends."""
    follower, parent = Follower(uri), os.getppid()
    with suppress(KeyboardInterrupt):
        while os.getppid() == parent:
            # nothing is lost, and the UI itself shows what is wrong with the store
            with suppress(MoonshineError, TrackingError):
                follower.look()
            time.sleep(SECONDS_BETWEEN)


if __name__ == "__main__":
    main(sys.argv[1])
