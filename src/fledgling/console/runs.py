"""Runs of this folder: which there were, what they do, and how one is started and stopped.

All of it is read from .fledgling/runs, whoever started the run; a run is a process of its own and outlives the console.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import IO

from fledgling.console.policy import Refused
from fledgling.console.reading import (
    Object,
    environment_without_secrets,
    items,
    loaded,
    obj,
    opened,
    regular,
    stamp,
    text,
    whole,
)
from fledgling.contenders import ASKING
from fledgling.graph import runs
from fledgling.graph.driver import identity
from fledgling.graph.runs import FOLDER, Event, Tail

STARTS = Path(".fledgling/starts")  # what was printed by runs that were started here
MOST = 50  # runs that are listed
POINTS = 2000  # of a loss curve that are kept


@dataclass
class Job:
    """One job of a run, as its events tell."""

    id: str
    rule: str
    name: str
    track: str
    targets: list[str]
    logs: list[str]
    reason: str
    started: str
    state: str = "running"
    ended: str = ""
    done: int | None = None
    total: int | None = None
    unit: str = ""
    message: str = ""
    loss: list[tuple[int, float]] = field(default_factory=list)

    def to_json(self) -> Object:
        """The job as the API gives it."""
        return {key: value for key, value in self.__dict__.items() if value not in ("", None, [])}


class Watch:
    """One run, read on from where it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tail = Tail(folder / "events.jsonl")
        self._jobs: dict[str, Job] = {}
        self._done = self._total = 0
        self._messages: list[str] = []
        self._record: Object = {}
        self._stamp: object = None
        self._lock = threading.Lock()
        self._bought: dict[str, tuple[int, int]] = {}

    def read(self) -> Object:
        """The run as the API gives it."""
        with self._lock:
            for event in self._tail.read():
                self._take(event)
            mark = stamp(self.folder / "run.json")
            if mark != self._stamp:
                self._record, self._stamp = loaded(self.folder / "run.json"), mark
            state = state_of(self._record)
            running = state == "running"
            jobs = [self._ended(job, running).to_json() for job in self._jobs.values() if job.rule != "all"]
            return {
                "run": self.folder.name,
                "state": state,
                "command": shlex.join([str(part) for part in self._arguments()]),
                "targets": targets(self._arguments()),
                "start": self._record.get("start"),
                "end": self._record.get("end"),
                "exitCode": self._record.get("exit_code"),
                "done": self._done,
                "total": self._total,
                "jobs": jobs,
                "messages": self._messages[-20:],
                "calls": sum(last - first for first, last in self._bought.values()),
                "kept": sum(first for first, _ in self._bought.values()),
            }

    def _arguments(self) -> list[str]:
        found = self._record.get("argv")
        return [str(part) for part in found] if isinstance(found, list) else []

    @staticmethod
    def _ended(job: Job, running: bool) -> Job:
        if job.state == "running" and not running:
            job.state = "stopped"
        return job

    def _take(self, event: Event) -> None:
        kind = event["event"]
        if kind == "job_started":
            names = runs.wildcards(event)
            self._jobs[runs.text(event, "job")] = Job(
                runs.text(event, "job"),
                runs.text(event, "rule"),
                runs.name(event),
                names.get("track", ""),
                runs.texts(event, "outputs"),
                runs.texts(event, "logs"),
                runs.text(event, "reason"),
                runs.text(event, "at"),
            )
        elif kind in ("job_finished", "job_failed"):
            if job := self._jobs.get(runs.text(event, "job")):
                job.state = "done" if kind == "job_finished" else "failed"
                job.ended = runs.text(event, "at")
        elif kind == "steps":
            self._done, self._total = runs.number(event, "done") or 0, runs.number(event, "total") or 0
        elif kind == "plan":
            self._total = runs.number(event, "total") or 0
        elif kind in ("error", "warning", "waiting", "stopping"):
            said = runs.text(event, "message") or "Stopping: running jobs are told to end"
            if said not in self._messages:
                self._messages.append(said)
        elif kind in ("progress", "failed", "note"):
            self._stage(event)

    def _stage(self, event: Event) -> None:
        target = runs.text(event, "target")
        job = next((job for job in reversed(self._jobs.values()) if target in job.targets), None)
        if job is None:
            return
        if event["event"] != "progress":
            job.message = runs.text(event, "message")
            return
        job.done, job.total, job.unit = (
            runs.number(event, "done"),
            runs.number(event, "total"),
            runs.text(event, "unit"),
        )
        loss = event.get("loss")
        if isinstance(loss, float) and job.done is not None and (not job.loss or job.loss[-1] != (job.done, loss)):
            job.loss.append((job.done, loss))
            if len(job.loss) > POINTS:
                del job.loss[1::2]
        if runs.text(event, "contender") == "teacher" and job.rule.startswith(ASKING) and job.done is not None:
            self._bought.setdefault(job.id, (job.done, job.done))
            self._bought[job.id] = (self._bought[job.id][0], job.done)


def state_of(record: Object) -> str:
    """running, done, failed, stopped, or killed: it has no end and its process is gone. `elsewhere` cannot be known."""
    if state := text(record.get("state")):
        return state
    if record.get("host") != socket.gethostname():
        return "elsewhere" if record else "broken"
    return "running" if _lives(record) else "killed"


def _lives(record: Object) -> bool:
    pid, driver = whole(record.get("pid")), text(record.get("driver"))
    if pid is None:
        return False
    try:
        if named := identity(pid):  # where the system can name a process for good, a run that names none is no run
            return named == driver
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _works_in(pid: int, root: Path) -> bool:
    """Whether a process works in a folder; anybody can write a run.json that names another one."""
    try:
        return pid > 1 and os.path.samefile(f"/proc/{pid}/cwd", root)
    except FileNotFoundError:
        return pid > 1 and not os.path.exists("/proc/self/stat")  # no /proc: nothing tells
    except PermissionError:
        raise Refused(403, "not_yours", "this run belongs to another user of this machine") from None


def targets(argv: list[str]) -> list[str]:
    """The targets that a command line of Snakemake names."""
    counts = ("--cores", "-c", "--jobs", "-j", "--local-cores")  # whose `all` is no target
    given = [part for before, part in pairwise(argv) if before not in counts]
    return [part for part in given if part.startswith("results/") or part == "all"]


@dataclass
class Started:
    """A run that this console has started, until it has ended."""

    process: "subprocess.Popen[bytes]"
    log: Path
    targets: list[str]


class Runs:
    """All runs of a folder."""

    def __init__(self, root: Path, configfiles: list[Path]) -> None:
        self._root, self._configfiles = root, configfiles
        self._watched: dict[str, Watch] = {}
        self._started: list[Started] = []
        self._failed: list[Object] = []
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The newest runs first."""
        try:
            found = [entry.name for entry in os.scandir(self._root / FOLDER) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        return sorted(found, reverse=True)[:MOST]

    def read(self, name: str) -> Object:
        """One run.

        Raises:
            Refused: 404.
        """
        with self._lock:
            if name not in self._watched:
                if name not in self.names():
                    raise Refused(404, "not_found", "no such run")
                if len(self._watched) > 2 * MOST:
                    self._watched.clear()
                self._watched[name] = Watch(self._root / FOLDER / name)
            watch = self._watched[name]
        return watch.read()

    def all(self) -> list[Object]:
        """All runs, the newest first, without their jobs."""
        self.reap()
        found = []
        for name in self.names():
            run = self.read(name)
            jobs = run.pop("jobs")
            running = [job for job in jobs if obj(job).get("state") == "running"] if isinstance(jobs, list) else []
            found.append(
                {**run, "running": [f"{obj(job)['rule']} {obj(job).get('name', '')}".strip() for job in running]}
            )
        return found

    def active(self) -> Object | None:
        """The run that goes on now, whoever started it."""
        return next((run for name in self.names()[:5] if (run := self.read(name))["state"] == "running"), None)

    def failed_starts(self) -> list[Object]:
        """Starts of this console that ended before they became a run, with what they printed."""
        self.reap()
        return list(self._failed[-5:])

    def starting(self) -> bool:
        """Whether a run that was started here has not said anything yet."""
        self.reap()
        return bool(self._started)

    def command(self, wanted: list[str], *options: str) -> list[str]:
        """The command that builds targets; the same that a person would type."""
        given = [str(file) for file in self._configfiles[1:]]
        files = ["--configfile", *given] if given else []
        return ["snakemake", "--cores", "all", *options, *files, "--", *(wanted or ["all"])]

    def start(self, wanted: list[str]) -> Object:
        """Start a run in a session of its own, which stays when the console ends.

        Raises:
            Refused: 409 while another run works in this folder.
        """
        if active := self.active():
            raise Refused(409, "busy", f"the run {active['run']} works in this folder; wait for it or stop it")
        with self._lock:
            self._reap()
            if self._started:
                raise Refused(409, "busy", "a run is going on in this folder; wait for it or stop it")
            (self._root / STARTS).mkdir(parents=True, exist_ok=True)
            log = self._root / STARTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.log"
            command = self.command(wanted)
            with open(log, "wb") as stream:
                process = spawn([sys.executable, "-m", *command], self._root, stream)
            self._started.append(Started(process, log, wanted))
        return {"pid": process.pid, "command": shlex.join(command), "targets": wanted or ["all"]}

    def stop(self, name: str) -> None:
        """Interrupt a run as Ctrl-C in its terminal would: the same command goes on later.

        Raises:
            Refused: 404, 409 where it does not run.
        """
        if self.read(name)["state"] != "running":
            raise Refused(409, "not_running", "this run does not go on any more")
        pid = whole(loaded(self._root / FOLDER / name / "run.json").get("pid")) or 0
        if not _works_in(pid, self._root):
            raise Refused(409, "not_running", "the process of this run does not work in this folder")
        try:
            group = os.getpgid(pid)
            if group == os.getpgid(0):
                os.kill(pid, signal.SIGINT)
            else:
                os.killpg(group, signal.SIGINT)
        except ProcessLookupError:
            raise Refused(409, "not_running", "this run does not go on any more") from None
        except PermissionError:
            raise Refused(403, "not_yours", "this run belongs to another user of this machine") from None

    def tail(self, name: str, lines: int = 60) -> str:
        """The end of the log of the job that said something last."""
        run = self.read(name)
        logs = [text(log) for job in items(run.get("jobs")) for log in items(obj(job).get("logs"))]
        whole_of = (self._root / "logs").resolve()
        places = [self._root / log for log in logs if log.startswith("logs/") and ".." not in log]
        places = [place for place in places if place.resolve().is_relative_to(whole_of)]
        newest = max(
            (place for place in places if regular(place)), key=lambda place: place.stat().st_mtime, default=None
        )
        if newest is None:
            return ""
        return f"{newest.relative_to(self._root)}\n{end_of(newest, lines)}"

    def reap(self) -> None:
        """Take note of runs that were started here and have ended."""
        with self._lock:
            self._reap()

    def _reap(self) -> None:
        known = {name.rpartition("-")[2] for name in self.names()}
        for one in list(self._started):
            ended = one.process.poll() is not None
            if ended and str(one.process.pid) not in known:
                said = end_of(one.log, 40)
                at = datetime.fromtimestamp(one.log.stat().st_ctime, UTC).isoformat(timespec="seconds")
                code = one.process.returncode
                if code or "Nothing to be done" not in said:
                    self._failed.append({"at": at, "targets": one.targets, "exitCode": code, "said": said})
            if ended or str(one.process.pid) in known:
                self._started.remove(one)
                if not ended:
                    threading.Thread(target=one.process.wait, daemon=True).start()  # no zombie stays


def spawn(command: list[str], root: Path, output: IO[bytes], **env: str) -> "subprocess.Popen[bytes]":
    """Start a process that has nothing of this one but its environment, without the token."""

    def interruptible() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(
        command,
        cwd=root,
        env=environment_without_secrets() | env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=interruptible if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else None,  # noqa: PLW1509
    )


def end_of(path: Path, lines: int) -> str:
    """The last lines of a text file."""
    try:
        with opened(path) as stream:
            stream.seek(max(os.fstat(stream.fileno()).st_size - 200 * lines, 0))
            found = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(line.rpartition("\r")[2] for line in found.splitlines()[-lines:])


def age(seconds: float | None) -> str:
    """How long ago a time was, for people."""
    if seconds is None:
        return ""
    passed = max(time.time() - seconds, 0)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if passed >= size:
            count = int(passed // size)
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"
