"""Progress of a stage: a bar on the terminal or a line in its log, and events for those who watch the run."""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

EVENTS = "FLEDGLING_EVENTS"  # the file that takes the events of the run; set by the Snakemake that drives it
BYTE = "byte"  # the unit of downloads
PAUSE = 0.5  # seconds between two progress events of one bar
LONGEST = 3500  # bytes of an event: one write of less than a page is never torn between two processes

Value = str | int | float | bool | None


def now() -> str:
    """The time as events carry it: UTC, ISO 8601, in milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def emit(event: str, **fields: Value) -> None:
    """Append one event of this stage to the file of the run, if somebody watches; a watcher never breaks a stage.

    Says by itself which file is made (`target`), of which track and contender. Texts are cut so that one event is one
    write.
    """
    path = os.environ.get(EVENTS)
    if not path:
        return
    whole = {"at": now(), "event": event, **job_of(sys.argv), **fields}
    line = _line(whole)
    if len(line) > LONGEST:
        room = max(LONGEST - len(_line({**whole, "message": ""})), 0) // 6  # a character takes up to six bytes
        line = _line({**whole, "message": str(whole.get("message", ""))[:room] + "…"})
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, line)
        finally:
            os.close(file)
    except OSError:
        return


def _line(event: Mapping[str, Value]) -> bytes:
    return (json.dumps(event, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def job_of(arguments: list[str]) -> dict[str, Value]:
    """What a script's command line says about its job: rule (the script's name), target, track and contender."""
    options = dict(pairwise(arguments))
    found: dict[str, Value] = {"rule": Path(arguments[0]).stem if arguments else ""}
    target = options.get("--out") or options.get("--datasheet")
    parts = Path(target).parts if target else ()
    if target:
        found["target"] = target
    if track := options.get("--track") or (parts[-2] if len(parts) > 2 and parts[-3] == "predictions" else None):
        found["track"] = track
    if "predictions" in parts or "metrics" in parts:
        found["contender"] = Path(parts[-1]).stem
    return found


class Bar:
    """Progress of work that is not an iteration: `update(n, loss=…)` and `close()`.

    A tqdm bar (on the terminal where there is one that nobody else draws on, else a line now and then in the log), and
    twice a second at most an event.
    """

    def __init__(self, *, desc: str, total: int | None = None, initial: int = 0, unit: str = "row") -> None:
        from tqdm import tqdm

        terminal = sys.stdout.isatty() and not os.environ.get(EVENTS)  # whoever takes events draws what they say
        self._tqdm = tqdm(
            desc=desc,
            total=total,
            initial=initial,
            unit=unit,
            file=sys.stdout if terminal else sys.stderr,
            mininterval=0.2 if terminal else 10,
            ascii=not terminal,
            dynamic_ncols=terminal,
            unit_scale=unit == BYTE,
            leave=True,
        )
        self._desc, self._total, self._unit = desc, total, unit
        self._done, self._said = initial, -1
        self._figures: dict[str, Value] = {}
        self._next = 0.0
        self._emit()

    def update(self, n: int = 1, **figures: float) -> None:
        """Another `n` are done; `figures` (loss, tokens_per_s …) go into the event."""
        self._done += n
        self._tqdm.update(n)
        if figures:
            self._figures.update(figures)
        if time.monotonic() >= self._next:
            self._emit()

    def close(self) -> None:
        """The work ends here, whole or not."""
        self._tqdm.close()
        if self._done != self._said:
            self._emit()

    def _emit(self) -> None:
        self._next = time.monotonic() + PAUSE
        self._said = self._done
        emit("progress", what=self._desc, done=self._done, total=self._total, unit=self._unit, **self._figures)


class ByteBar:
    """A bar as huggingface_hub asks for one while it downloads a file: of bytes, and shown as every other."""

    def __init__(self, *, desc: str, total: int | None = None, initial: int = 0, **_: object) -> None:
        self._bar = Bar(desc=desc, total=total, initial=initial, unit=BYTE)

    def update(self, n: int = 1) -> None:
        """Another `n` bytes are here; fewer than none where a server sends all of them again."""
        self._bar.update(n)

    def __enter__(self) -> "ByteBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def progress(items: Iterable[T], *, desc: str, total: int | None = None, unit: str = "row") -> Iterator[T]:
    """Iterate with a progress bar; `total` is taken from what has a length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    bar = Bar(desc=desc, total=total, unit=unit)
    try:
        for item in items:
            yield item
            bar.update()
    finally:
        bar.close()


def progress_bar(*, desc: str, total: int | None = None, initial: int = 0, unit: str = "row") -> Bar:
    """A bar for work that is not an iteration (`bar.update(n)`, `bar.close()`)."""
    return Bar(desc=desc, total=total, initial=initial, unit=unit)
