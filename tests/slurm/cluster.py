"""A SLURM cluster of one node, this machine, on its loopback interface and in one temporary folder."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
# What Debian's packages leave behind when they are purged.
LEFTOVERS = [
    Path(root) / name
    for root in ("/etc", "/run", "/var/lib", "/var/log", "/var/spool")
    for name in ("munge", "slurm", "slurmctld", "slurmd")
]
USERS = ("munge", "slurm")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# The node claims more memory than it may have, and GPUs that are none: jobs ask as on a real cluster. Nothing here is
# at SLURM's usual ports or in its usual places, so that another SLURM of this machine is not disturbed.
GPUS = """\
Name=gpu File=/dev/zero
Name=gpu File=/dev/full
Name=shard Count=4
"""
CONFIG = """\
ClusterName=moonshine
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
# a job that was preempted waits for as many seconds before it starts again
AuthInfo=socket={folder}/munge.socket,cred_expire=20
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
# finds processes whose parents are gone, which linuxproc does not; clusters have cgroups for that
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
# without accounting, squeue says how a job ended, for as long as this
MinJobAge=300
KillWait=5
GresTypes=gpu,shard
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=64000 Gres=gpu:2,shard:4 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Refused(Exception):
    """Nothing was done."""


@contextmanager
def one_node_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Install SLURM if need be, start it, and undo both; gives the environment in which its commands work."""
    with ExitStack() as undo:
        undo.enter_context(_packages())
        undo.callback(_end_strays, folder)
        host = socket.gethostname().partition(".")[0]
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir()
        # munged wants its socket to be within everybody's reach
        folder.chmod(0o711)
        config = folder / "slurm.conf"
        ports = {name: free_port() for name in ("ctld_port", "slurmd_port")}
        config.write_text(CONFIG.format(host=host, folder=folder, **ports))
        (folder / "gres.conf").write_text(GPUS)
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        # The plugin starts srun without any SLURM_ variable: it would look for the configuration of the machine.
        wrapper = folder / "bin" / "srun"
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF="{config}" exec {shutil.which("srun")} "$@"\n')
        wrapper.chmod(0o755)
        environment = {
            **os.environ,
            "SLURM_CONF": str(config),
            "PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]]),
        }

        def start(*command: str) -> None:
            undo.enter_context(daemon(folder / f"{command[0]}.log", environment, *command))

        files = {f"--{name}-file": folder / f"munge.{name}" for name in ("key", "pid", "log", "seed")}
        sockets = f"--socket={folder}/munge.socket"
        start("munged", "--foreground", sockets, *(f"{name}={path}" for name, path in files.items()))
        wait_for(lambda: (folder / "munge.socket").exists(), 20, "munged")
        start("slurmctld", "-D", "-c")
        start("slurmd", "-D")

        def state() -> str:
            command = ["sinfo", "--noheader", "--format=%T"]
            return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()

        wait_for(lambda: state() == "idle", 60, "the node to be idle")
        try:
            yield environment
        finally:
            subprocess.run(["scancel", "--user=root"], env=environment, check=False)
            wait_for(lambda: state() == "idle", 60, "the jobs to end")


def _end_strays(folder: Path) -> None:
    """End what still works in our folder: nobody else can."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                print(f"ends process {process.name}, which SLURM left", file=sys.stderr)
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            pass  # it has ended


@contextmanager
def daemon(log: Path, environment: dict[str, str], *command: str) -> Iterator[None]:
    """A program that runs in the background of a ``with`` block."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            # Ctrl-C is for us, who then stop everything in order
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _packages() -> Iterator[None]:
    """Debian's packages, and nothing of them afterwards that was not there before.

    They may not stay: with SLURM's commands and no cluster to answer them, every start of Snakemake takes ten seconds.
    """
    if shutil.which("apt-get") is None:
        raise Refused("there is no apt-get: this test is for Debian and its relatives")
    before, paths, users = _installed(), {path for path in LEFTOVERS if path.exists()}, _users()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}

    def apt(*arguments: str) -> bool:
        command = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, start_new_session=True
        )
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
        return done.returncode == 0

    made: set[str] = set()
    try:
        try:
            with _undisturbed():
                if not before.issuperset(PACKAGES):
                    install = ("install", "-y", "--no-install-recommends", *PACKAGES)
                    # the lists of packages may be missing, or too old
                    if not (apt(*install) or (apt("update") and apt(*install))):
                        raise Refused("apt-get could not install " + " and ".join(PACKAGES))
        finally:
            made = _installed() - before
        yield
    finally:
        if made:
            # purging them removes all of /etc/slurm, whoever wrote it
            apt("remove" if paths else "purge", "-y", *sorted(made))
            for path in set(LEFTOVERS) - paths:
                shutil.rmtree(path, ignore_errors=True)
            for user in _users() - users:
                subprocess.run(["userdel", user], check=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A package is not left half installed: a signal that ends us is obeyed afterwards."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        os.kill(os.getpid(), came[0])


def end_once() -> None:
    """Signals that end us undo everything first, which no second signal cuts short."""

    def end(number: int, _: object) -> None:
        ignore_signals()
        sys.exit(128 + number)

    for number in ENDING:
        signal.signal(number, end)


def ignore_signals() -> None:
    for number in ENDING:
        signal.signal(number, lambda *_: None)  # SIG_IGN would be inherited


def _installed() -> set[str]:
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev} ${Package}\n"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[1] for line in lines if line.startswith("ii")}


def _users() -> set[str]:
    return {entry.pw_name for entry in pwd.getpwall()}.intersection(USERS)
