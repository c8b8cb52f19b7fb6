"""A `python -m` for the commands of both engines that forks a process with torch imported, instead of importing it.

Run as a program it is the server: it imports what it is told to, and then answers each request with a fork.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

# What a shell runs for `python`; it starts without site-packages, in milliseconds.
CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.makefile().read()))
"""


@contextmanager
def quick_python(*modules: str) -> Iterator[None]:
    """Let the engines' commands, which say ``python -m``, run in forks of a process that has imported ``modules``.

    A bash looks for ``python`` among its functions before it looks for a file.
    """
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = str(Path(folder) / "socket")
        with subprocess.Popen(
            [sys.executable, "-E", "-P", __file__, path, *modules], stdout=subprocess.PIPE
        ) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            client = shlex.join([sys.executable, "-I", "-S", "-c", CLIENT, path])
            patch.setenv("BASH_FUNC_python%%", f'() {{ {client} "$@"\n}}')
            patch.setenv("SHELL", "/bin/bash")  # for DVC
            try:
                yield
            finally:
                server.terminate()


def serve(path: str, modules: Sequence[str]) -> None:
    """Answer each client with a fork, and with what that returned."""
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
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
