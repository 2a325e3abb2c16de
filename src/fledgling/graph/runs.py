"""The runs of a folder on disk: .fledgling/runs/{run}/run.json says who, events.jsonl what happened.

Written by the Snakemake that drives the folder and by the stages it starts; read by the terminal, the console and
whoever else watches. Nothing here is needed to build anything, so all of it can be deleted.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from fledgling.files import write_json
from fledgling.graph.driver import identity
from fledgling.progress import now

FOLDER = Path(".fledgling/runs")

Field = str | int | float | bool | None | list[str] | dict[str, str] | dict[str, int]
Event = dict[str, Field]
"""One line of events.jsonl: `at` (UTC), `event`, and what docs/console.md lists for it."""

End = Literal["done", "failed", "stopped"]


class RunRecord(TypedDict):
    """.fledgling/runs/{run}/run.json, format fledgling/run/1: one Snakemake run of this folder."""

    format: str
    run: str
    """{UTC yyyymmdd-hhmmss}-{pid}, the name of the folder."""
    argv: list[str]
    """The command, as it can be typed again."""
    pid: int
    host: str
    driver: str
    """"pid:start time:boot id" of the process; pids are used again, this is not."""
    start: str
    end: NotRequired[str]
    """Absent while the run goes on, and for good when it was killed."""
    state: NotRequired[End]
    exit_code: NotRequired[int]
    seconds: NotRequired[float]


class RunLog:
    """The files of one run, written by the process that drives it."""

    def __init__(self, root: Path, run: str, argv: list[str]) -> None:
        self.folder = root / FOLDER / run
        self.events = self.folder / "events.jsonl"
        self._began = time.monotonic()
        self._record = RunRecord(
            format="fledgling/run/1",
            run=run,
            argv=argv,
            pid=os.getpid(),
            host=socket.gethostname(),
            driver=identity(os.getpid()) or "",
            start=now(),
        )
        self._file: int | None = None

    @property
    def open(self) -> bool:
        """Whether the files are there: they are made when jobs start, never by a dry run."""
        return self._file is not None

    def begin(self) -> None:
        """Make the folder; from here on the run can be seen."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.events, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        write_json(self.folder / "run.json", self._record)

    def write(self, event: Event) -> None:
        """Append one event; one write, so that the lines of stages stay whole."""
        if self._file is not None:
            line = json.dumps(event, ensure_ascii=False) + "\n"
            os.write(self._file, line.encode("utf-8", "backslashreplace"))

    def end(self, state: End, exit_code: int) -> None:
        """The run is over."""
        if self._file is None:
            return
        seconds = round(time.monotonic() - self._began, 3)
        self._record |= RunRecord(end=now(), state=state, exit_code=exit_code, seconds=seconds)  # type: ignore[typeddict-item]
        write_json(self.folder / "run.json", self._record)
        os.close(self._file)
        self._file = None


@dataclass
class Tail:
    """Reads what was appended to a file of events since the last look; half a line waits for its rest."""

    path: Path
    offset: int = 0
    _half: bytes = field(default=b"", repr=False)

    def read(self, limit: int = 1 << 24) -> Iterator[Event]:
        """The events that are new; nothing where the file is not there. Lines that are no events are passed over."""
        try:
            with open(self.path, "rb") as stream:
                stream.seek(self.offset)
                found = stream.read(limit)
        except OSError:
            return
        self.offset += len(found)
        *lines, self._half = (self._half + found).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                yield event


def text(event: Event, key: str) -> str:
    """A field of an event as text; empty where it is missing."""
    value = event.get(key)
    return "" if value is None else str(value)


def number(event: Event, key: str) -> int | None:
    """A whole number of an event; None where there is none."""
    value = event.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def texts(event: Event, key: str) -> list[str]:
    """A list of texts of an event; empty where it is missing."""
    value = event.get(key)
    return [str(item) for item in value] if isinstance(value, list) else []


def wildcards(event: Event) -> dict[str, str]:
    """The wildcards of a job: track, contender …"""
    value = event.get("wildcards")
    return {str(key): str(item) for key, item in value.items()} if isinstance(value, dict) else {}


def name(event: Event) -> str:
    """What a job works on, for people: its wildcards in their order."""
    return " ".join(filter(None, (value.strip("/") for value in wildcards(event).values())))
