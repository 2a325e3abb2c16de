"""Snakemake's logger plugin of this project: the events of a run go to files and, for people, to the terminal.

Found by Snakemake through its name and asked for by profiles/default. Imported by every Snakemake command, and before
the Snakefile puts the folder's own src first on the path: so nothing of fledgling is imported before jobs are known.
A dry run prints what Snakemake itself prints.
"""

import copy
import json
import logging
import os
import re
import shlex
import sys
import textwrap
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase, OutputSettingsLoggerInterface

from snakemake_logger_plugin_fledgling import arguments
from snakemake_logger_plugin_fledgling.reasons import in_words

if TYPE_CHECKING:
    from fledgling.graph.runs import End, Event, RunLog, Tail
    from fledgling.graph.terminal import Terminal

# Messages of Snakemake that lead to one of our events.
NOTHING = "Nothing to be done"
STOPPING = ("Terminating processes on user request", "Will exit after finishing currently running jobs")
# What Snakemake prints around a message of ours: where in the rules it was raised. The message names the place to mend.
RAISED = re.compile(r'^\s*(?:File "[^"]*\.smk", line \d+.*|\w+ in (?:rule \w+ in )?file "[^"]*\.smk", line \d+:)$')
# What Snakemake says once more after a job has failed: the job has been shown, without the text of its settings.
SEEN = re.compile(
    r"At least one job did not complete successfully|Exiting because a job execution failed"
    r"|Command '.*' (?:returned non-zero exit status|died with)",
    re.DOTALL,
)
# What an input function raised, as Snakemake wraps it.
WRAPPED = re.compile(r"\bError:\n\s+\w+:\n(?P<message>.*?)\nWildcards:\n", re.DOTALL)
NO_RULE = re.compile(r"^MissingRuleException:\s*No rule to produce (?P<target>\S+)")
LONGEST = 500  # characters of a reason that are kept


arguments.check(sys.argv)  # Snakemake loads its plugins before it reads what was typed


class LogHandlerSettings(LogHandlerSettingsBase):
    """None: what is shown follows from Snakemake's own options."""


class LogHandler(LogHandlerBase):
    """Writes .fledgling/runs/{run}/ and what a person sees."""

    def __post_init__(self) -> None:
        settings = self.common_settings
        self._plain: logging.Handler | None = None
        self._terminal: Terminal | None = None
        self._log: RunLog | None = None
        self._stages: Tail | None = None
        self._before: list[Event] = []
        self._failed = self._interrupted = False
        self._began: str | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        if settings.dryrun or settings.verbose or settings.debug_dag:
            self._plain = _snakemakes_own(settings)
        if not settings.dryrun:
            # Here, in the main thread: the first job may start before this handler's thread sees it.
            self._root = arguments.folder(sys.argv)
            self._run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"
            os.environ["FLEDGLING_EVENTS"] = str(self._root / ".fledgling/runs" / self._run / "events.jsonl")

    @property
    def writes_to_stream(self) -> bool:
        """Instead of Snakemake's own handler."""
        return True

    @property
    def writes_to_file(self) -> bool:
        """Its files are no text logs."""
        return False

    @property
    def has_filter(self) -> bool:
        """All records are seen; what is not shown is kept in events."""
        return True

    @property
    def has_formatter(self) -> bool:
        """Events are no text."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """It would be made for each dry run."""
        return False

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record of Snakemake; nothing that goes wrong here may end a run."""
        try:
            if self._plain:
                self._plain.handle(_shortened(record))
            if self.common_settings.dryrun:
                _write_plan(translate(record))
            else:
                with self._lock:
                    for event in translate(record):
                        self._take(event, record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """After the last record: the answers, and the end of the run in its file. Called again as Python ends."""
        super().close()
        if self._over.is_set():
            return
        self._over.set()
        if self.common_settings.dryrun:
            if self._plain:
                self._plain.close()
            return
        with self._lock:
            raised = sys.exc_info()[1]
            interrupted = self._interrupted or isinstance(raised, KeyboardInterrupt)
            state: End = "stopped" if interrupted else "failed" if self._failed or raised else "done"
            code = raised.code if isinstance(raised, SystemExit) else 130 if interrupted and raised else None
            exit_code = code if isinstance(code, int) else 0 if state == "done" else 1
            self._read_stages()
            if self._terminal:
                self._terminal.end(state, _asked(sys.argv))
            if self._log:
                self._log.end(state, exit_code)

    def _take(self, event: "Event", record: logging.LogRecord) -> None:
        kind = event["event"]
        self._failed = self._failed or kind in ("error", "over")
        self._interrupted = self._interrupted or kind == "stopping"
        if kind in ("job_finished", "job_failed"):
            self._read_stages()  # what the stage said last: a note, why it failed
        terminal = self._shown()
        if kind == "job_started" and self._log is None:
            self._begin()
        if self._log:
            self._log.write(event)
        else:
            self._before.append(event)
        if terminal:
            terminal.handle(event)

    def _shown(self) -> "Terminal | None":
        """The terminal, from the first event on; none where Snakemake's own output was asked for."""
        if self._terminal is None and self._plain is None:
            from snakemake.settings.enums import Quietness

            from fledgling.graph.terminal import Terminal

            quiet = set(self.common_settings.quiet or ())
            live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not quiet
            self._terminal = Terminal(
                sys.stderr,
                self._root,
                _command(sys.argv),
                live=live,
                colour=live and not self.common_settings.nocolor and "NO_COLOR" not in os.environ,
                quiet=bool(quiet & {Quietness.ALL, Quietness.PROGRESS, Quietness.RULES}),
            )
        return self._terminal

    def _begin(self) -> None:
        from fledgling.graph.runs import RunLog, Tail

        self._log = RunLog(self._root, self._run, shlex.split(_command(sys.argv)))
        self._log.begin()
        for event in self._before:
            self._log.write(event)
        self._stages = Tail(self._log.events)
        threading.Thread(target=self._watch, name="fledgling-terminal", daemon=True).start()

    def _watch(self) -> None:
        """Once a second, until the end: what the stages said, and the line that is alive."""
        while not self._over.wait(1):
            with self._lock:
                if not self._over.is_set():
                    self._read_stages()
                    if self._terminal:
                        self._terminal.tick()

    def _read_stages(self) -> None:
        """Events that stages wrote into the file of the run; ours have been shown."""
        if self._stages and self._terminal:
            for event in self._stages.read():
                if event["event"] in ("progress", "note", "failed", "waiting"):
                    self._terminal.handle(event)


def _write_plan(events: "list[Event]") -> None:
    """Append the events of a dry run to the file that FLEDGLING_PLAN names: what would run, for who starts runs."""
    if events and (path := os.environ.get("FLEDGLING_PLAN")):
        with open(path, "a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(event) + "\n" for event in events)


def _shortened(record: logging.LogRecord) -> logging.LogRecord:
    """A record as it is said in a dry run too: an error as ours, a reason in words."""
    if record.__dict__.get("event") == LogEvent.JOB_INFO:
        record = copy.copy(record)
        record.__dict__["reason"] = _reason(record.__dict__)
    if record.__dict__.get("event") == LogEvent.ERROR:
        record = copy.copy(record)
        record.msg = f"error: {ours(str(record.msg))}"
    return record


def _snakemakes_own(settings: OutputSettingsLoggerInterface) -> logging.Handler:
    """The handler that Snakemake would have used."""
    from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter

    handler: logging.Handler = ColorizingTextHandler(
        nocolor=settings.nocolor, stream=sys.stdout if settings.stdout else sys.stderr
    )
    handler.setFormatter(DefaultFormatter(settings.quiet, settings.show_failed_logs))
    handler.addFilter(
        DefaultFilter(settings.quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds)
    )
    return handler


def _command(argv: list[str]) -> str:
    """The command that goes on, as it can be typed."""
    return shlex.join(["snakemake", *argv[1:]])


def _asked(argv: list[str]) -> dict[str, set[str]] | None:
    """What the targets of a command line name, {track: kinds of files}; None where it names none."""
    found: dict[str, set[str]] = {}
    for parts in (Path(argument).parts for argument in argv[1:]):
        if parts[:1] == ("results",) and len(parts) > 2:
            found.setdefault(Path(parts[2]).stem, set()).add(parts[1])
    return found or None


def translate(record: logging.LogRecord) -> "list[Event]":
    """The events of ours that a record of Snakemake is; empty where it says nothing that somebody watches for."""
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    given: Mapping[str, object] = record.__dict__

    def event(name: str, **fields: object) -> "list[Event]":
        return [{"at": at, "event": name, **fields}]  # type: ignore[dict-item]

    match given.get("event"):
        case LogEvent.RUN_INFO:
            stats = {str(rule): int(str(count)) for rule, count in _mapping(given.get("stats")).items()}
            total = stats.pop("total", sum(stats.values()))
            return event("plan", jobs=stats, total=total)
        case LogEvent.JOB_INFO:
            return event(
                "job_started",
                job=given.get("jobid"),
                rule=given.get("rule_name"),
                wildcards={key: str(value) for key, value in _mapping(given.get("wildcards")).items()},
                outputs=_texts(given.get("output")),
                logs=_texts(given.get("log")),
                reason=_reason(given)[:LONGEST],
            )
        case LogEvent.JOB_FINISHED:
            return event("job_finished", job=given.get("job_id"))
        case LogEvent.JOB_ERROR:
            return event("job_failed", job=given.get("jobid"), rule=given.get("rule_name"))
        case LogEvent.GROUP_ERROR:
            failed = given.get("job_error_info")
            jobs = [info for info in failed if isinstance(info, dict)] if isinstance(failed, list) else []
            return [one for info in jobs for one in event("job_failed", job=info["jobid"], rule=info["rule_name"])]
        case LogEvent.PROGRESS:
            return event("steps", done=given.get("done"), total=given.get("total"))
        case LogEvent.ERROR:
            message = str(record.msg)
            return event("over") if SEEN.search(message) else event("error", message=ours(message))
        case None:
            message = str(record.msg or "")
            if message.startswith(NOTHING):
                return event("nothing")
            if message.startswith(STOPPING):
                return event("stopping")
            if record.levelno >= logging.WARNING and message.strip() and not SEEN.search(message):
                return event("error" if record.levelno >= logging.ERROR else "warning", message=message.strip())
    return []


def _reason(given: Mapping[str, object]) -> str:
    wildcards = {key: str(value) for key, value in _mapping(given.get("wildcards")).items()}
    return in_words(str(given.get("reason") or ""), wildcards)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []


def ours(message: str) -> str:
    """An error without the lines of the rules through which it went; whole where it is no error of ours."""
    if wrapped := WRAPPED.search(message):
        return textwrap.dedent(wrapped["message"]).strip()
    if missing := NO_RULE.match(message):
        return f"nothing builds {missing['target']}; `snakemake --list-target-rules` and README.md name what can be asked for"
    lines = [line for line in message.splitlines() if not RAISED.match(line)]
    return "\n".join(lines).strip() or message
