"""A ``python`` that forks a process with torch, both engines and whatever else takes long to import.

Importing takes most of the time of what the tests run. As a program this file is the server, which all processes of a
run of the tests share: it imports `MODULES`, and then answers each request with a fork.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import NoReturn

MODULES = (
    "torch.utils.flop_counter",
    "torchvision",
    "torch.export._trace",
    "torch.onnx._internal.exporter._compat",
    "sympy.tensor.tensor",
    "onnxscript.function_libs.torch_lib.ops",
    "safetensors.torch",
    "snakemake.cli",
    "snakemake.report.html_reporter",
    "smart_open",
    "dvc.cli.parser",
    "dvc.repo.plots",
    "dvc.lock",
    "dvc.scm",
    "ruamel.yaml",
    "papermill",
    "black",
    "nbconvert.exporters",
    "ipykernel.kernelapp",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "scipy.stats",
    "altair",
)

# What runs in place of `python`; it starts without site-packages, in milliseconds.
CLIENT = """
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect("\\0" + sys.argv[1])
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    answers = server.makefile()
    process = int(answers.readline())
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(process, number))
    sys.exit(int(answers.readline()))
"""


@cache
def quick_python() -> str:
    """A program that runs ``-m module`` and ``-c code`` as Python does, and as Python itself anything else.

    It is called ``python``, and processes that it runs take it for their ``sys.executable``.
    """
    # pytest's own processes end one by one, the server with the one that started them
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    program = Path(gettempdir()) / f"moonshine-tests-{owner}" / "python"
    server = subprocess.Popen(
        [sys.executable, "-E", __file__, str(program), str(owner)], stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    server.stdout.readline()  # it listens, or has found that another one does
    return str(program)


def serve(program: Path, owner: int) -> None:
    """Answer each client with a fork, and with what that returned, while the process ``owner`` lives."""
    write_client(program)
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(f"\0{program}")
        except OSError:  # the name is taken
            return
        for left in program.parent.parent.glob("moonshine-tests-*"):  # by servers that were killed
            if not Path("/proc", left.name.rpartition("-")[2]).exists():
                shutil.rmtree(left, ignore_errors=True)
        listener.listen(128)
        print("ready", flush=True)
        gc.disable()
        for module in MODULES:
            with suppress(ImportError):  # a machine that is lent may have torch and no engine
                importlib.import_module(module)
        share_operators(18)  # opset of moonshine.formats.source, which forks import from folders of their own
        weakref.finalize._registry.clear()  # type: ignore[attr-defined]  # else forks take torch's libraries apart
        gc.freeze()
        running: dict[int, tuple[int, socket.socket]] = {}
        events = select.poll()
        events.register(listener, select.POLLIN)
        while os.path.exists(f"/proc/{owner}"):
            for descriptor, _ in events.poll(1000):
                if ended := running.pop(descriptor, None):
                    events.unregister(descriptor)
                    os.close(descriptor)
                    report(*ended)
                    continue
                connection, _ = listener.accept()
                try:
                    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
                    request = json.load(connection.makefile())
                except (OSError, ValueError):  # the client has been killed
                    connection.close()
                    continue
                process = os.fork()
                if not process:
                    threading.Thread(target=end_with, args=(connection,), daemon=True).start()
                    run(program, streams, *request)
                for stream in streams:
                    os.close(stream)
                with suppress(OSError):
                    connection.sendall(f"{process}\n".encode())
                descriptor = os.pidfd_open(process)
                running[descriptor] = process, connection
                events.register(descriptor, select.POLLIN)
    shutil.rmtree(program.parent)
    os._exit(0)


def share_operators(opset: int | None = None) -> None:
    """Keep torch's table of ONNX operators: the exporter makes it for each file, in a third of a small one's time."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:
        return
    table = cache(ONNXRegistry.from_torchlib)
    if opset:
        table(opset_version=opset)
    ONNXRegistry.from_torchlib = staticmethod(table)  # type: ignore[method-assign]


def write_client(program: Path) -> None:
    """Write the program at once, since another process may be writing the same and a third run it."""
    program.parent.mkdir(exist_ok=True)
    draft = program.with_name(f"{os.getpid()}")
    client = shlex.join([sys.executable, "-I", "-S", "-c", CLIENT, str(program)])
    draft.write_text(f'#!/bin/sh\nexec {client} "$@"\n')
    draft.chmod(0o700)
    draft.replace(program)


def report(process: int, connection: socket.socket) -> None:
    """Tell a client, unless it is gone, how its process ended."""
    _, status = os.waitpid(process, 0)
    with connection, suppress(OSError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status) % 256}\n".encode())


def end_with(connection: socket.socket) -> None:
    """End this process as soon as its client has been killed."""
    gone = select.poll()
    gone.register(connection, 0)
    gone.poll()
    os._exit(1)


def run(
    program: Path, streams: Sequence[int], arguments: list[str], folder: str, environment: dict[str, str]
) -> NoReturn:
    """Be the process that the client was asked for; it ends without taking torch apart, which takes as long again."""
    gc.enable()
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.environ.pop("JPY_PARENT_PID", None)  # a kernel would end because another process is its parent
    while arguments[0] == "-u" or arguments[0].startswith("-X"):
        del arguments[0]
    kind, what, *rest = arguments
    if kind not in ("-m", "-c"):
        os.execv(sys.executable, [sys.executable, *arguments])
    sys.executable = str(program)
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [what if kind == "-m" else "-c", *rest]
    status: object = 0
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), vars(sys.modules["__main__"]))
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
    del sys.path[
        0
    ]  # this folder; with -P instead, IPython's kernel would leave out the folder that it works in
    serve(Path(sys.argv[1]), int(sys.argv[2]))
