"""The sign of life that a driver gives to its jobs on other machines, through the folder that they share.

The driver counts up in one small file. A job looks at it now and then: where nothing has changed for the
grace, by the job's own clock (so clocks need not agree), its driver is gone, and it ends, as finished work
is in the journal or in a checkpoint. A driver that comes back in time takes the job over by writing its
name into the job's record; the job then follows the new one.
"""

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fledgling.files import read_json, write_json

log = logging.getLogger(__name__)

LEASE = "FLEDGLING_LEASE"  # JSON: the file of the sign of life, and the driver who gives it
RECORD = "FLEDGLING_JOB"  # the record of this job (slurm.py), where another driver may write its name
GRACE = "FLEDGLING_GRACE_S"  # how long a job goes on without a driver
GRACE_S = 600.0
LAST_S = 60.0  # for a job that was told to end, before it is killed


def grace_s() -> float:
    """How long a job on another machine goes on after the last sign of life of its driver."""
    return float(os.environ.get(GRACE) or GRACE_S)


def offer(folder: Path, driver: str) -> None:
    """Tell the jobs of this process where their driver will give its sign of life, and who it is."""
    os.environ[LEASE] = json.dumps({"file": str(folder.absolute() / "fledgling.driver"), "driver": driver})


def driver() -> str | None:
    """The driver that this process works for, as `offer` named it; None where there is none."""
    return str(json.loads(os.environ[LEASE])["driver"]) if os.environ.get(LEASE) else None


def give() -> None:
    """Give the sign of life that was offered, in a thread, for as long as this process lives."""
    offered = json.loads(os.environ[LEASE])
    beat = [0]

    def once() -> None:
        beat[0] += 1
        write_json(offered["file"], {"driver": offered["driver"], "beat": beat[0]})

    once()  # an error here is the caller's

    def go_on() -> None:
        while True:
            time.sleep(min(10.0, grace_s() / 5))
            try:
                once()
            except OSError as error:  # the disk may come back before the jobs lose patience
                log.warning("%s: no sign of life was given to the jobs (%s)", offered["file"], error)

    threading.Thread(target=go_on, name="sign-of-life", daemon=True).start()


def follow(end: Callable[[], None] | None = None) -> None:
    """End this process when no driver has looked after it for the grace: TERM first, so that it may save, then KILL.

    Does nothing where no driver was named.
    """
    if not os.environ.get(LEASE):
        return
    offered = json.loads(os.environ[LEASE])
    record = os.environ.get(RECORD)

    def watch() -> None:
        seen, since, told = None, time.monotonic(), False
        while time.monotonic() - since <= grace_s():
            time.sleep(min(15.0, grace_s() / 5))
            sign = _read(offered["file"])
            mine = (_read(record) if record else {}).get("driver") or offered["driver"]
            if sign and sign.get("driver") == mine and sign != seen:
                seen, since, told = sign, time.monotonic(), False
            elif not told and time.monotonic() - since > grace_s() / 2:
                log.warning("no sign of life of the driver; this job ends unless a driver takes it over")
                told = True
        log.error(
            "the driver is gone and none has taken this job over; what is finished is kept, the same command goes on"
        )
        (end or _end)()

    threading.Thread(target=watch, name="driver-watch", daemon=True).start()


def _read(path: str) -> dict[str, object]:
    try:
        value = read_json(path)
    except Exception:  # missing, or a network file system in trouble: as good as no sign
        return {}
    return value if isinstance(value, dict) else {}


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_S)
    os.kill(os.getpid(), signal.SIGKILL)
