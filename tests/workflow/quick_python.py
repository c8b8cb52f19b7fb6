"""A `python -m` for the engines and their commands that forks a process with torch and both engines imported.

Importing these takes most of the time of what the tests run. As a program this file is the server: it imports what it
is told to, and then answers each request with a fork.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import shlex
import socket
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Sequence
from functools import cache

ENGINES = (
    "torch.utils.flop_counter",
    "snakemake.cli",
    "dvc.cli",
    "dvc.repo",
    "papermill",
    "nbconvert.exporters",
)
EXPORTS = ("torch._dynamo", "onnx", "onnxscript")

# What runs in place of `python`; it starts without site-packages, in milliseconds.
CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect("\\0" + sys.argv[1])
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.makefile().read()))
"""


@cache
def quick_python(*modules: str) -> list[str]:
    """The beginning of a command, as of ``python``, with ``modules`` imported; the server ends with this process."""
    from moonshine_workflow.training.launch import (
        end_with_parent,  # not in the server: forks import a clone's
    )

    name = uuid.uuid4().hex
    server = subprocess.Popen(
        [sys.executable, "-E", "-P", __file__, name, *modules],
        stdout=subprocess.PIPE,
        preexec_fn=end_with_parent,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return [sys.executable, "-I", "-S", "-c", CLIENT, name]


def quick_environment(client: Sequence[str]) -> dict[str, str]:
    """Variables with which a bash, and so both engines, runs ``client`` for ``python``.

    It looks for a command among its functions before it looks for a file.
    """
    return {
        "BASH_FUNC_python%%": f'() {{ {shlex.join(client)} "$@"\n}}',
        "SHELL": "/bin/bash",  # for DVC
    }


def serve(name: str, modules: Sequence[str]) -> None:
    """Answer each client with a fork, and with what that returned."""
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        print("ready", flush=True)
        handlers: set[int] = set()
        while True:
            connection, _ = listener.accept()
            handler = os.fork()
            if not handler:
                break
            connection.close()
            handlers = {one for one in handlers | {handler} if os.waitpid(one, os.WNOHANG) == (0, 0)}
    with connection:
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        request = json.load(connection.makefile())
        if worker := os.fork():
            _, status = os.waitpid(worker, 0)
            connection.sendall(str(os.waitstatus_to_exitcode(status) % 256).encode())
            os._exit(0)
    run(streams, *request)


def run(streams: Sequence[int], arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be the process that the client was asked for; it ends without taking torch apart, which takes as long again."""
    gc.enable()
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if arguments[0] != "-m":
        os.execv(sys.executable, [sys.executable, *arguments])
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = arguments[1:]
    status: object = 0
    try:
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
