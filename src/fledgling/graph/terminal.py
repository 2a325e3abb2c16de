"""What a person sees of a run: a line a job, what was dropped, errors with their remedy, and at the end the answer.

On a terminal the last line is alive: what runs, how far it is, for how long. In a pipe there is none, and only a job
that takes long says so now and then, each time after twice the time.
"""

import json
import shutil
import textwrap
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TextIO

from fledgling.errors import ConfigError, DataError, Unavailable
from fledgling.graph import runs
from fledgling.graph.runs import Event

QUICK = 5  # seconds up to which jobs share a line on a terminal, for twice this time
QUICK_PIPED, GATHERED = 15, 60  # the same in a pipe, which is read afterwards
FIRST_WORD = 60  # seconds after which a job says, in a pipe, that it still runs
LINES = 25  # of an error message that are shown
SILENT = ("all",)  # rules that only ask for others
REMEDY = {
    ConfigError.exit_code: "mend what is named above",
    Unavailable.exit_code: "run the same command once that is over; what is done or paid is kept",
    DataError.exit_code: "mend the file or the rows named above",
}
ANSWERS = ("compare", "verdict", "report", "hub")  # kinds of files that are, or come after, an answer
GATE = {
    "swap": "before training: good enough",
    "fine_tune": "before training: not good enough",
    "inconclusive": "before training: too few rows to tell",
    "invalid": "the teacher's own answers cannot be trusted",
}


@dataclass
class Running:
    """A job that runs, and what its stage said last."""

    rule: str
    name: str
    targets: tuple[str, ...]
    logs: tuple[str, ...]
    since: float
    progress: Event = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: Event = field(default_factory=dict)
    next_word: float = FIRST_WORD

    @property
    def label(self) -> str:
        """The rule, and what it works on."""
        return f"{self.rule} {self.name}".strip()


class Terminal:
    """Prints the events of a run. `events` come from whoever drives it; calls may come from two threads in turn."""

    def __init__(
        self,
        stream: TextIO,
        root: Path,
        command: str,
        *,
        live: bool,
        colour: bool,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._root, self._command = stream, root, command
        self._live, self._quiet, self._clock = live, quiet, clock
        self._colour = colour
        self._running: dict[str, Running] = {}
        self._quick: dict[str, list[str]] = {}
        self._quick_since = self._quick_seconds = 0.0
        self._done = self._total = 0
        self._seen: dict[str, set[str]] = {}
        self._failed: list[str] = []
        self._stopping = self._nothing = self._broken = False
        self._began = clock()
        self._drawn = ""

    def handle(self, event: Event) -> None:
        """Show one event."""
        handlers: dict[str, Callable[[Event], None]] = {
            "plan": self._plan,
            "nothing": self._nothing_to_do,
            "job_started": self._started,
            "progress": self._progress,
            "note": self._note,
            "failed": self._stage_failed,
            "job_finished": self._finished,
            "job_failed": self._job_failed,
            "steps": self._steps,
            "stopping": self._stop,
            "warning": self._warning,
            "waiting": self._warning,
            "error": self._error,
        }
        if handler := handlers.get(runs.text(event, "event")):
            handler(event)

    def tick(self) -> None:
        """A second has passed: draw the line that is alive, or say in a pipe what still runs."""
        if self._quick and self._clock() - self._quick_since > (2 * QUICK if self._live else GATHERED):
            self._flush()
        if self._live:
            self._draw()
            return
        for job in self._running.values():
            if self._clock() - job.since >= job.next_word:
                job.next_word *= 2
                self._say(f"{job.label} … {_far(job.progress)}{_time(self._clock() - job.since)} so far")

    def end(self, state: runs.End, asked: dict[str, set[str]] | None = None) -> None:
        """The run is over: the answers, then how it went. `asked` is {track: kinds of files}, None is all."""
        self._flush()
        self._erase()
        if not self._seen and not self._nothing:
            return
        if not self._quiet:
            for line in answers(self._root, self._seen, asked, whole=state == "done"):
                self._print(line)
        took = _time(self._clock() - self._began)
        if state == "stopped":
            self._print(f"Stopped after {took}; what is done is kept. Go on with: {self._command}")
        elif state == "failed":
            jobs = f"{_jobs(len(self._failed))} failed" if self._failed else "Failed"
            self._print(self._red(f"{jobs}, {self._done} of {self._total} done and kept, after {took}"))
        elif not self._nothing and not self._quiet:
            self._print(f"Done: {_jobs(self._done)} in {took}")

    # What the events say

    def _plan(self, event: Event) -> None:
        jobs = event.get("jobs")
        counts = {str(rule): count for rule, count in jobs.items()} if isinstance(jobs, dict) else {}
        named = ", ".join(f"{rule} {count}" for rule, count in counts.items() if rule not in (*SILENT, "total"))
        self._total = runs.number(event, "total") or 0
        self._say(f"{_jobs(self._total)}: {named}")

    def _nothing_to_do(self, event: Event) -> None:
        self._nothing = True
        if not self._quiet:
            self._print("Nothing to be done: all that was asked for is there and up to date.")

    def _started(self, event: Event) -> None:
        rule, names = runs.text(event, "rule"), runs.wildcards(event)
        self._running[runs.text(event, "job")] = Running(
            rule,
            runs.name(event),
            tuple(runs.texts(event, "outputs")),
            tuple(runs.texts(event, "logs")),
            self._clock(),
        )
        self._seen.setdefault(names.get("track", ""), set()).add(rule)
        if rule == "train" and (warning := hardly(self._root, names.get("track", ""))):
            self._say(f"{rule} {runs.name(event)}: {warning}")
        if self._live:
            self._draw()

    def _of(self, event: Event) -> Running | None:
        target = runs.text(event, "target")
        return next((job for job in self._running.values() if target in job.targets), None)

    def _progress(self, event: Event) -> None:
        if job := self._of(event):
            job.progress = event

    def _note(self, event: Event) -> None:
        if job := self._of(event):
            job.notes.append(runs.text(event, "message"))

    def _stage_failed(self, event: Event) -> None:
        if job := self._of(event):
            job.error = event

    def _finished(self, event: Event) -> None:
        job = self._running.pop(runs.text(event, "job"), None)
        if job is None or job.rule in SILENT:
            return
        took = self._clock() - job.since
        notes = [*job.notes, *told(self._root, job.rule, job.targets)]
        if took <= (QUICK if self._live else QUICK_PIPED) and not notes:
            if not self._quick:
                self._quick_since, self._quick_seconds = self._clock(), 0.0
            self._quick.setdefault(job.rule, []).append(job.name)
            self._quick_seconds += took
            return
        if self._live:
            self._flush()
        self._say(f"{job.label}, {_time(took)}")
        for note in notes:
            self._say_below(note)

    def _job_failed(self, event: Event) -> None:
        job = self._running.pop(runs.text(event, "job"), None)
        if job is None or self._stopping:
            return
        self._flush()
        self._failed.append(job.label)
        cause, remedy = _why(job, self._root)
        self._print(self._red(f"{_now()}  {job.label} failed after {_time(self._clock() - job.since)}"))
        self._block("cause", cause)
        self._block("remedy", remedy)
        self._block("go on", self._command)
        self._block("log", ", ".join(job.logs) or "none")

    def _steps(self, event: Event) -> None:
        self._done = runs.number(event, "done") or self._done
        self._total = runs.number(event, "total") or self._total

    def _stop(self, event: Event) -> None:
        if not self._stopping:
            self._print("Stopping: running jobs are told to end …")
        self._stopping = True

    def _warning(self, event: Event) -> None:
        self._print(f"warning: {runs.text(event, 'message')}")

    def _error(self, event: Event) -> None:
        self._print(self._red(f"error: {runs.text(event, 'message')}"))

    # How it is printed

    def _flush(self) -> None:
        if self._quick:
            rules = ", ".join(f"{rule} {_names(names)}".strip() for rule, names in self._quick.items())
            self._quick = {}
            self._say(f"{rules}, {_time(self._quick_seconds)}")

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._print(f"{_now()}  {line}")

    def _say_below(self, line: str) -> None:
        if not self._quiet:
            self._print(textwrap.indent(line, " " * 10))

    def _block(self, name: str, message: str) -> None:
        lines = message.splitlines() or [""]
        if len(lines) > LINES:
            lines = [*lines[:LINES], f"… {len(lines) - LINES} more lines are in the log"]
        if message:
            self._print("\n".join([f"  {name:<7} {lines[0]}", *(f"          {line}" for line in lines[1:])]))

    def _red(self, line: str) -> str:
        return f"\033[31m{line}\033[0m" if self._colour else line

    def _print(self, line: str) -> None:
        self._erase()
        self._write(line + "\n")
        if self._live and self._running:
            self._draw()

    def _draw(self) -> None:
        jobs = [job for job in self._running.values() if job.rule not in SILENT]
        if not jobs:
            self._erase()
            return
        shown = " · ".join(f"{job.label} {_far(job.progress)}{_time(self._clock() - job.since)}" for job in jobs)
        width = shutil.get_terminal_size().columns - 1
        line = f"{self._done}/{self._total} · {shown}"
        line = line if len(line) <= width else line[: width - 1] + "…"
        if line != self._drawn:
            self._write(f"\r\033[2K{line}")
            self._drawn = line

    def _erase(self) -> None:
        if self._drawn:
            self._write("\r\033[2K")
            self._drawn = ""

    def _write(self, text: str) -> None:
        if self._broken:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._broken = True  # nobody reads any more; the run goes on


def _now() -> str:
    return datetime.now().strftime("%H:%M:%S")


def _names(names: list[str]) -> str:
    """What jobs of one rule worked on, where that is short."""
    return names[0] if len(names) == 1 else f"× {len(names)}"


def _jobs(count: int) -> str:
    return f"{count:,} job{'s' * (count != 1)}"


def _time(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def _far(progress: Event) -> str:
    """How far a stage is: '120/433 rows, loss 0.051, '; empty where it said nothing."""
    done, total = runs.number(progress, "done"), runs.number(progress, "total")
    if done is None:
        return ""
    unit = runs.text(progress, "unit") + "s"
    if unit == "bytes":
        return f"{done / 1e9:,.2f}/{total / 1e9:,.2f} GB, " if total is not None else f"{done / 1e9:,.2f} GB, "
    loss = progress.get("loss")
    figures = f", loss {loss:.3g}" if isinstance(loss, float) else ""
    return f"{done:,}/{total:,} {unit}{figures}, " if total is not None else f"{done:,} {unit}{figures}, "


def _why(job: Running, root: Path) -> tuple[str, str]:
    """(cause, remedy) of a job that failed: what its stage said, else the end of its log."""
    if job.error:
        message, code = runs.text(job.error, "message"), runs.number(job.error, "code") or 1
        if "\n" not in message and "; " in message:
            cause, _, remedy = message.partition("; ")
            return cause, remedy
        return message, REMEDY.get(code, "this is a fault of Fledgling itself; its traceback is in the log")
    lines = [line for log in job.logs for line in _end(root / log)]
    said = [line for line in lines if line.startswith("error: ")]
    return (said[-1] if said else "\n".join(lines[-3:]) or "it ended without a word; was it killed, out of memory?"), ""


def _end(log: Path) -> list[str]:
    try:
        with open(log, "rb") as stream:
            stream.seek(max(log.stat().st_size - 8192, 0))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rpartition("\r")[2] for line in text.splitlines() if line.strip()]


# What the files say that a job has built


def told(root: Path, rule: str, targets: Iterable[str]) -> list[str]:
    """What a person should know about what a job has built: rows dropped, answers that are none, what the gate says."""
    found: list[str] = []
    for target in targets:
        place = Path(target).parts
        if place[:2] == ("results", "data") and place[-1] == "datasheet.json":
            datasheet = _read(root / target)
            found += [*_rows(datasheet, target), str(_dict(datasheet.get("power")).get("sentence") or "")]
        elif place[:2] == ("results", "predictions") and target.endswith(".json"):
            found += _outcomes(_read(root / target))
        elif place[:2] == ("results", "compare"):
            found.append(GATE.get(str(_read(root / target).get("decision")), ""))
    return list(filter(None, found))


def hardly(root: Path, track: str) -> str:
    """A word before a training that its test rows can hardly reward, even were the result as good as the teacher; or ""."""
    gate, datasheet = root / f"results/compare/{track}.json", root / f"results/data/{track}/datasheet.json"
    able = _dict(_read(gate).get("split_power")) or _dict(_read(datasheet).get("power"))
    return f"this training can hardly be rewarded. {able.get('sentence')}" if able.get("low") else ""


def _read(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _rows(datasheet: dict[str, object], target: str) -> list[str]:
    sources = datasheet.get("sources")
    counts = [_dict(_dict(source).get("rows")) for source in sources] if isinstance(sources, list) else []
    read = sum(_int(count.get("read")) for count in counts)
    splits = {name: _int(_dict(split).get("rows")) for name, split in _dict(datasheet.get("splits")).items()}
    lost = {
        name.replace("_", " "): sum(_int(count.get(name)) for count in counts)
        for name in ("rejected", "duplicates", "beyond_limit")
    }
    lost["too like a test row"] = sum(map(_int, _dict(_dict(datasheet.get("leaks")).get("dropped")).values()))
    dropped = ", ".join(f"{count:,} {name}" for name, count in lost.items() if count)
    shares = ", ".join(f"{name} {count:,}" for name, count in splits.items())
    bare = (
        sum(_int(_dict(source).get("without_tools_or_schema")) for source in sources)
        if isinstance(sources, list)
        else 0
    )
    lacks = "tools" if datasheet.get("kind") == "toolcall" else "a schema"
    return [
        f"{read:,} rows read: {shares}",
        *([f"left out: {dropped} ({target} says why)"] if dropped else []),
        *([f"{bare:,} rows come without {lacks} of their own"] if bare else []),
    ]


def _outcomes(predictions: dict[str, object]) -> list[str]:
    outcomes = {name: _int(count) for name, count in _dict(predictions.get("outcomes")).items()}
    lost = ", ".join(f"{count:,} {name}" for name, count in outcomes.items() if count and name != "ok")
    return [f"of {sum(outcomes.values()):,} rows without a whole answer: {lost}"] if lost else []


def answers(root: Path, seen: dict[str, set[str]], asked: dict[str, set[str]] | None, *, whole: bool) -> list[str]:
    """The verdict of each track that a run was about, else what its gate says, and where its report lies.

    `seen` is {track: rules that ran}, `asked` {track: kinds of files that were asked for}, None is all of them. Only a
    `whole` run, one that ended well, vouches for a verdict that it had no need to build again.
    """
    built = {path.stem for path in (root / "results/verdict").glob("*.json")}
    about = {track for track, rules in seen.items() if rules & {"compare", "decide", "report"}}
    if whole:
        about |= built if asked is None else {track for track, kinds in asked.items() if kinds & set(ANSWERS)}
    lines: list[str] = []
    for track in sorted(about):
        current = whole and (asked is None or bool(asked.get(track, set()) & {"verdict", "report", "hub"}))
        decided = current or bool(seen.get(track, set()) & {"decide", "report"})
        verdict = _read(root / f"results/verdict/{track}.json") if decided else {}
        said = verdict or _read(root / f"results/compare/{track}.json")
        if statement := said.get("statement"):
            lines.append(f"{track}: {statement}")
        report = Path(f"results/report/{track}.html")
        if verdict and (root / report).exists():
            lines.append(f"{' ' * len(track)}  {report}")
    return lines
