"""The MLflow run of a node during training, written by a helper process.

Importing MLflow takes seconds of CPU and a server may hang. A helper process (niced, started only once the
node has trained for a while, killed if it does not finish in time) keeps both away from training: whatever
fails here costs one warning, and the run is logged later from the node's folder.
"""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from moonshine_workflow.graph.metrics import RunIdentity
from moonshine_workflow.tracking.runs import epoch_points, read_node
from moonshine_workflow.tracking.store import (
    active_runs,
    answering,
    log_points,
    log_to,
    open_store,
    resolve_uri,
    start_run,
)

logger = logging.getLogger(__name__)


class Live:
    """Shows a training node in MLflow from ``after`` seconds on; never raises, never waits except in `close`.

    ``config`` is the node's ``config.json``. A node that finishes before ``after``, or before
    MLflow is loaded, is not shown: its run is logged later from its folder.
    """

    def __init__(
        self,
        identity: RunIdentity,
        config: Mapping[str, Any],
        *,
        after: float = 30.0,
        every: float = 1.0,
        tracking_uri: str | None = None,
    ) -> None:
        self._uri = resolve_uri(tracking_uri)
        start = {"identity": identity.content(), "config": dict(config), "uri": self._uri}
        self._unsent = _line(start)
        self._due = time.monotonic() + after
        self._every = every
        self._helper: subprocess.Popen[bytes] | None = None
        self._closed = False

    def epoch(self, row: Mapping[str, float | None]) -> None:
        """Add one epoch: a row of ``history.csv``. Earlier rows of a resumed node may be given or not."""
        if self._closed:
            return
        self._unsent += _line({"row": {name: value for name, value in row.items() if value is not None}})
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every
            try:
                self._send()
            except OSError as error:
                self._give_up(str(error))

    def close(self, folder: Path | None = None, timings: Path | None = None, wait: float = 5.0) -> str | None:
        """End the run: complete it from the finished node's folder, or without one mark it as killed.

        Gives the run's id, or None if there is no complete run (yet); takes at most ``wait`` seconds.
        """
        helper, self._helper = self._helper, None
        self._closed = True
        if helper is None:
            return None
        if not helper.stdout or not select.select([helper.stdout], [], [], 0)[0]:
            _end(helper)  # MLflow is still loading
            return None
        if folder is not None:
            self._unsent += _line({"folder": str(folder), "timings": str(timings) if timings else None})
        answer: dict[str, str] = {}
        try:
            output, _ = helper.communicate(self._unsent, timeout=wait)
            answer = json.loads(output.splitlines()[-1])
        except subprocess.TimeoutExpired:
            answer = {"error": f"MLflow at {self._uri} did not answer within {wait:g} s"}
        except (OSError, ValueError, IndexError):
            answer = {"error": f"MLflow at {self._uri}: the process that logs to it died"}
        finally:
            _end(helper)
        if "error" in answer:
            _warn(answer["error"])
        return answer.get("run_id")

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self) -> None:
        """Give the helper what its pipe takes now; the rest stays for the next time."""
        if self._helper is None:
            package = str(Path(__file__).resolve().parents[2])
            paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
            # Its own session: Ctrl-C is for training, which then closes the pipe.
            self._helper = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": paths},
            )
            assert self._helper.stdin is not None
            os.set_blocking(self._helper.stdin.fileno(), False)
        assert self._helper.stdin is not None
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._helper.stdin.fileno(), self._unsent) :]
        except BlockingIOError:
            pass

    def _give_up(self, reason: str) -> None:
        """The helper ended early: say why, once, and stop."""
        helper, self._helper, self._closed = self._helper, None, True
        if helper is not None and helper.stdout is not None:
            os.set_blocking(helper.stdout.fileno(), False)
            try:
                reason = json.loads((helper.stdout.read() or b"").splitlines()[-1])["error"]
            except (OSError, ValueError, IndexError, KeyError):
                reason = f"MLflow at {self._uri}: {reason}"
            _end(helper)
        _warn(reason)


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _warn(reason: str) -> None:
    logger.warning("%s; nothing is lost, the run can be logged later from the node's folder", reason)


def _end(helper: subprocess.Popen[bytes]) -> None:
    helper.kill()
    helper.wait()
    for pipe in (helper.stdin, helper.stdout):
        if pipe is not None:
            pipe.close()


def _batches(source: int) -> Iterator[list[dict[str, Any]]]:
    """Messages as they come, all that wait at once; ends with the pipe."""
    unread = b""
    while chunk := os.read(source, 1 << 20):
        *lines, unread = (unread + chunk).split(b"\n")
        if lines:
            yield [json.loads(line) for line in lines]


def _serve(source: int) -> dict[str, Any]:
    """The helper process: the first message opens the run, rows follow, a folder or the end ends it.

    Prints a line once the run is open; gives what the last line shall say.
    """
    messages = _batches(source)
    first, *waiting = next(messages)
    uri, identity = first["uri"], RunIdentity.model_validate(first["identity"])
    with answering(uri):
        store = open_store(identity.study, uri)
        for run in active_runs(store, identity.node).get(identity.node, ()):
            store.client.delete_run(run.info.run_id)
        run_id, epochs = start_run(store, identity, first["config"], int(time.time() * 1000)), set()
        print(json.dumps({"opened": run_id}), flush=True)
        while True:
            rows = [message["row"] for message in waiting if "row" in message]
            log_points(store, run_id, epoch_points(rows), int(time.time() * 1000))
            epochs |= {int(row["epoch"]) for row in rows}
            for message in waiting:
                if "folder" in message:
                    node = read_node(Path(message["folder"]))
                    timings = Path(message["timings"]) if message["timings"] else None
                    return {"run_id": log_to(store, node, timings, (), (run_id, epochs))[0]}
            waiting = next(messages, [])
            if not waiting:
                store.client.set_terminated(run_id, "KILLED")
                return {}


if __name__ == "__main__":
    os.nice(10)
    try:
        print(json.dumps(_serve(sys.stdin.fileno())))
    except Exception as error:  # one line for the parent, whatever it was
        print(json.dumps({"error": str(error)}))
        sys.exit(1)
