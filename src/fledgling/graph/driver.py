"""The Snakemake process that drives a folder: one at a time, its jobs get its settings and end when it does."""

import fcntl
import json
import os
import select
import signal
import socket
import sys
import threading
from typing import Any

from fledgling.errors import ConfigError
from fledgling.files import canonical

WHERE = "FLEDGLING_WHERE"  # canonical JSON of fledgling.config.where
DRIVER = "FLEDGLING_DRIVER"  # "pid:start time:boot id" of the Snakemake process that owns this job


def hand_over(where: dict[str, Any]) -> None:
    """Give the "where" part of the configuration to this process and those that it starts."""
    os.environ[WHERE] = canonical(where)


def where() -> dict[str, Any]:
    """The "where" part of the configuration as the graph hands it over; {} when run by hand."""
    value: dict[str, Any] = json.loads(os.environ.get(WHERE, "{}"))
    return value


def identity(pid: int) -> str:
    """Names one process for good: pids are used again, and mean nothing on another machine. Empty without /proc.

    Raises:
        FileNotFoundError: no such process.
    """
    if not os.path.exists("/proc/self/stat"):
        return ""
    with open(f"/proc/{pid}/stat", "rb") as stream:
        start = stream.read().rpartition(b")")[2].split()[19].decode()
    with open("/proc/sys/kernel/random/boot_id") as stream:
        return f"{pid}:{start}:{stream.read().strip()}"


def adopt_jobs(where: dict[str, Any], source: str) -> None:
    """Called in the Snakefile, for the jobs that this process starts.

    They get the "where" part of the configuration, run in the environment that Snakemake runs in
    (also where nobody activated it), import fledgling from `source`, and end when this process does.
    """
    hand_over(where)
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    if mark := identity(os.getpid()):
        os.environ.setdefault(DRIVER, mark)


def hold_folder(lock: str) -> None:
    """Let one driver at a time work in a folder, for as long as this process lives.

    A second one exits at once with code 3 and names the first. The kernel frees the lock when its
    holder ends, however it ends, so nothing has to be unlocked by hand.
    """
    stream = open(lock, "a+", encoding="utf-8")  # noqa: SIM115, held until the process ends
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        print(
            f"error: another run works in this folder ({stream.read().strip()}); wait for it or stop it",
            file=sys.stderr,
        )
        raise SystemExit(ConfigError.exit_code) from None
    stream.truncate(0)
    stream.write(f"pid {os.getpid()} on {socket.gethostname()}: {' '.join(sys.argv)}")
    stream.flush()
    _held.append(stream)


_held: list[Any] = []


def die_with_driver() -> None:
    """End this process when the Snakemake that started it is gone, so that no orphan writes later.

    Does nothing when run by hand, or on another machine than the driver (a cluster's scheduler
    cancels its jobs itself). Snakemake starts jobs through a shell, so the parent-death signal of
    the kernel would name the shell; a pidfd on the driver itself has no such gap.
    """
    mark = os.environ.get(DRIVER, "")
    pid, boot = mark.split(":")[0], mark.split(":")[-1]
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            if not mark or stream.read().strip() != boot:
                return
        fd = os.pidfd_open(int(pid))
        if identity(int(pid)) != mark:
            raise ProcessLookupError
    except (FileNotFoundError, ProcessLookupError):
        if mark and os.path.exists("/proc/self/stat"):
            raise SystemExit(143) from None
        return

    def watch() -> None:
        select.select([fd], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="driver-watch", daemon=True).start()
