"""The Snakemake process that drives a folder: one at a time, its jobs get its settings and end when it does."""

import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fledgling.errors import ConfigError, FledglingError
from fledgling.files import Object, canonical
from fledgling.graph import lease
from fledgling.locks import lock as locked

WHERE = "FLEDGLING_WHERE"  # canonical JSON of fledgling.config.where
DRIVER = "FLEDGLING_DRIVER"  # "pid:start time:machine" of the Snakemake process on this machine that owns this job
CONFIG = "FLEDGLING_CONFIG"  # digest of the configuration that the jobs of this run follow


def hand_over(where: Object) -> None:
    """Give the "where" part of the configuration to this process and those that it starts."""
    os.environ[WHERE] = canonical(where)


def where() -> Object:
    """The "where" part of the configuration as the graph hands it over; {} when run by hand."""
    value: Object = json.loads(os.environ.get(WHERE, "{}"))
    return value


def identity(pid: int) -> str:
    """Names one process for good: pids are used again, and mean nothing on another machine or in another container.

    Empty without /proc.

    Raises:
        FileNotFoundError: no such process.
    """
    if not os.path.exists("/proc/self/stat"):
        return ""
    with open(f"/proc/{pid}/stat", "rb") as stream:
        start = stream.read().rpartition(b")")[2].split()[19].decode()
    return f"{pid}:{start}:{_machine()}"


def _machine() -> str:
    """Names this boot of this machine and, where processes are counted apart as in a container, the container."""
    with open("/proc/sys/kernel/random/boot_id") as stream:
        boot = stream.read().strip()
    try:
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return boot


def adopt_jobs(where: Object, source: str, *, mode: str = "default", config: str = "") -> None:
    """Called in the Snakefile, for the jobs that this process starts.

    They get the "where" part of the configuration, run in the environment that Snakemake runs in
    (also where nobody activated it), import fledgling from `source`, and end when this process does.
    `mode` is Snakemake's: "default" in the driver, "subprocess" in a child of it, "remote" in a job of a
    scheduler, whose driver is on another machine and gives a sign of life (graph/lease.py). `config` is a
    digest of what the jobs make, so that a live one of another configuration is not taken over.
    """
    hand_over(where)
    # Code comes from the checkout; everything else is relative to where Snakemake runs (--directory).
    os.environ["FLEDGLING_SCRIPTS"] = os.path.join(os.path.dirname(source), "scripts")
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    mark = identity(os.getpid())
    if mode == "subprocess" or not mark:
        return
    os.environ[DRIVER] = mark
    if mode == "default":
        os.environ.pop(lease.RECORD, None)
        os.environ[CONFIG] = config
        lease.offer(Path(".snakemake"), f"{mark} on {socket.gethostname()}")


def run_of_driver() -> str | None:
    """Names the run of Snakemake that this job belongs to, the same in all its jobs on all machines; None by hand."""
    return lease.driver() or os.environ.get(DRIVER)


@contextmanager
def exits() -> Iterator[None]:
    """End this process with an error's own code, as a stage does; Snakemake would print where it was raised and end with 1."""
    try:
        yield
    except FledglingError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def hold_folder(lock: str) -> None:
    """Let one driver at a time work in a folder, for as long as this process lives.

    The kernel frees the lock when its
    holder ends, however it ends, so nothing has to be unlocked by hand.

    Raises:
        ConfigError: another one works here, and which; or the disk has no locks.
    """
    stream = open(lock, "a+", encoding="utf-8")  # noqa: SIM115, held until the process ends
    if not locked(stream.fileno(), lock, "run in a folder on another disk (snakemake --directory …)"):
        stream.seek(0)
        raise ConfigError(f"another run works in this folder ({stream.read().strip()}); wait for it or stop it")
    stream.truncate(0)
    stream.write(f"pid {os.getpid()} on {socket.gethostname()}: {' '.join(sys.argv)}")
    stream.flush()
    _held.append(stream)
    lease.give()


_held: list[IO[str]] = []


def die_with_driver() -> None:
    """End this process when the Snakemake that started it is gone, so that no orphan writes later.

    Does nothing when run by hand. Snakemake starts jobs through a shell, so the parent-death signal of
    the kernel would name the shell; a pidfd on the process itself has no such gap. In a job of a
    scheduler that process is the Snakemake inside the job; the driver is on another machine, and its
    sign of life is looked at as well.
    """
    mark = os.environ.get(DRIVER, "")
    if not mark:
        return
    remote = (lease.driver() or mark).split(" ")[0] != mark
    if remote:
        lease.follow()
    pid, _, machine = mark.split(":", 2)
    try:
        if machine != _machine():
            return
        fd = os.pidfd_open(int(pid))
        if identity(int(pid)) != mark:
            raise ProcessLookupError
    except (FileNotFoundError, ProcessLookupError):
        if os.path.exists("/proc/self/stat"):
            raise SystemExit(143) from None
        return

    def watch() -> None:
        select.select([fd], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="driver-watch", daemon=True).start()
