"""What every entry point shares: log, progress, exit codes, and dying with the driver."""

import errno
import fcntl
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from fledgling.errors import ConfigError, FledglingError, Unavailable
from fledgling.files import canonical

T = TypeVar("T")
WHERE = "FLEDGLING_WHERE"  # canonical JSON of fledgling.config.where
DRIVER = "FLEDGLING_DRIVER"  # "pid:start time:boot id" of the Snakemake process that owns this job


def run(main: Callable[[], int | None]) -> None:
    """Run an entry point and exit with its code: 0 ok, 2–5 as in fledgling.errors, 130/143 on signals.

    What is said goes to stderr, which the rules send to the log file of the job.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for noisy in ("httpx", "httpcore", "urllib3", "filelock", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    die_with_driver()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = main() or 0
    except FledglingError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        code = 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(
            f"error: no space left for {error.filename or 'an output'}; free some and run the same command",
            file=sys.stderr,
        )
        code = Unavailable.exit_code
    except Exception:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    sys.exit(code)


def _terminate(signum: int, frame: Any) -> None:
    print("terminated; the same command goes on from here", file=sys.stderr)
    raise SystemExit(128 + signum)


def where() -> dict[str, Any]:
    """The "where" part of the configuration as the graph hands it over; {} when run by hand."""
    value: dict[str, Any] = json.loads(os.environ.get(WHERE, "{}"))
    return value


def progress(items: Iterable[T], *, desc: str, total: int | None = None, unit: str = "row") -> Iterator[T]:
    """Iterate with a progress bar: on the terminal where there is one, else a line now and then in the log."""
    yield from progress_bar(items, desc=desc, total=total, unit=unit)


def progress_bar(
    items: Iterable[Any] | None = None, *, desc: str, total: int | None = None, initial: int = 0, unit: str = "row"
) -> Any:
    """A tqdm bar in the same style, for work that is not an iteration (`bar.update(n)`, `bar.close()`)."""
    from tqdm import tqdm

    terminal = sys.stdout.isatty()
    return tqdm(
        items, desc=desc, total=total, initial=initial, unit=unit, file=sys.stdout if terminal else sys.stderr,
        mininterval=0.2 if terminal else 10, ascii=not terminal, dynamic_ncols=terminal, leave=True,
    )  # fmt: skip


def _identity(pid: int) -> str:
    """Names one process for good: pids are used again, and mean nothing on another machine."""
    with open(f"/proc/{pid}/stat", "rb") as stream:
        start = stream.read().rpartition(b")")[2].split()[19].decode()
    with open("/proc/sys/kernel/random/boot_id") as stream:
        return f"{pid}:{start}:{stream.read().strip()}"


def adopt_jobs(where: dict[str, Any], source: str) -> None:
    """Called in the Snakefile, for the jobs that this process starts.

    They get the "where" part of the configuration, run in the environment that Snakemake runs in
    (also where nobody activated it), import fledgling from `source`, and end when this process does.
    """
    os.environ[WHERE] = canonical(where)
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    if os.path.exists("/proc/self/stat"):
        os.environ.setdefault(DRIVER, _identity(os.getpid()))


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
        if _identity(int(pid)) != mark:
            raise ProcessLookupError
    except (FileNotFoundError, ProcessLookupError):
        if mark and os.path.exists("/proc/self/stat"):
            raise SystemExit(143) from None
        return

    def watch() -> None:
        select.select([fd], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="driver-watch", daemon=True).start()
