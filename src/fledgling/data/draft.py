"""A track drafted from rows: what they are, how they can be split, which limits fit them."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path

from fledgling.artefacts import JsonObject
from fledgling.data import formats
from fledgling.data.invalid import Unusable
from fledgling.data.sources import open_source
from fledgling.data.traces import logs
from fledgling.data.traces.record import Record
from fledgling.data.traces.traffic import Traffic, day
from fledgling.errors import DataError
from fledgling.files import canonical
from fledgling.records import KINDS
from fledgling.tokens import text_tokens

SPLITS = {"train": 0.6, "val": 0.15, "test": 0.25}
TEST_SHARE = (0.15, 0.4)  # of the calls, from the time on that a draft makes the test
WITHOUT_VAL = {"train": 0.9, "val": 0.1, "test": 0.0}  # where a file holds the test rows and none those of val
# Words in the names of files that say which split they are.
NAMES = {
    "train": "train",
    "training": "train",
    "validation": "val",
    "valid": "val",
    "val": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
ANSWER_TOKENS = (32, 4096)  # bounds of max_new_tokens in a draft


@dataclass(slots=True)
class Seen:
    """What was seen of rows, read as one kind of track."""

    usable: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    with_tools: int = 0
    with_schema: int = 0
    answer_tokens: int = 0


@dataclass(slots=True)
class Task:
    """What was seen of the rows of one task: of a log the calls of one name, of other files all rows."""

    seen: dict[str, Seen]
    calls: int = 0
    times: list[float] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)


@dataclass(frozen=True, slots=True)
class Draft:
    """A track's block, and what it is based on. `notes` say what else the log holds."""

    name: str
    block: JsonObject
    rows: int
    seen: Seen
    notes: tuple[str, ...] = ()


def draft(paths: Sequence[str], *, name: str, kind: str | None = None, log: bool = False) -> Draft:
    """Look at every row of the files (paths or globs) and draft a track from them.

    The kind is the one that more rows can be read as; where both can, rows with tools are tool calls. Files whose names
    say a split go there whole if there are both train and test, else all rows are split by group. Of a log the most
    frequent name and model are taken, and the newest quarter is the test; `log` says that the files are one, where their
    rows leave that open.

    Raises:
        DataError: no row can be used; says what was found instead. A file is missing.
    """
    read = 0
    tasks: dict[str | None, Task] = {}
    kinds = (kind,) if kind else KINDS
    for path in paths:
        for part in open_source({"path": _as_glob(path)}, seed=0, key=path):
            for number, raw in logs.calls(part.rows(), named=log):
                read += 1
                if isinstance(raw, logs.NoCall):
                    continue
                about = raw.name if isinstance(raw, Record) else None
                task = tasks.setdefault(about, Task({each: Seen() for each in kinds}))
                rows = [_look(raw, each, found, part.place(number)) for each, found in task.seen.items()]
                if isinstance(raw, Record):
                    task.calls += 1
                    if messages := next((row for row in rows if row is not None), None):
                        task.traffic.note(task.calls, raw, messages)
                        task.times += [] if raw.time is None else [raw.time]
    called = max(tasks, key=lambda about: tasks[about].calls, default=None)
    task = tasks[called] if called in tasks else Task({each: Seen() for each in kinds})
    chosen = kind or _kind(task.seen)
    found = task.seen[chosen]
    if not found.usable:
        why = "\n".join(f"  {count} rows: {found.first[code]}" for code, count in found.bad.most_common(5))
        raise DataError(f"{', '.join(paths)}: none of the {read} rows can be used:\n{why or '  there are none'}")
    splits = {path: _split_of(path) for path in paths}
    whole = {"train", "test"} <= set(splits.values())
    sources: list[JsonObject] = []
    for path in paths:
        source: JsonObject = {"path": _as_glob(path)}
        if task.calls:
            source |= _of_log(called, tasks)
        if whole and splits[path] and (splits[path] != "train" or "val" in splits.values()):
            source["split"] = splits[path]
        if found.bad and not task.calls:
            source["on_invalid"] = "reject"
        sources.append(source)
    block: JsonObject = {"kind": chosen, "sources": list(sources)}
    if any("split" not in source for source in sources):
        newest = None if whole else _newest(task.times)
        block["splits"] = {"test_from": newest} if newest else dict(WITHOUT_VAL if whole else SPLITS)
    block["max_new_tokens"] = _limit(found.answer_tokens)
    return Draft(name, block, read, found, tuple(_notes(called, tasks)) if task.calls else ())


def _of_log(called: str | None, tasks: Mapping[str | None, Task]) -> JsonObject:
    """The keys by which a source takes the calls of one task from a log."""
    models = tasks[called].traffic.models
    where: JsonObject = {}
    if called is not None and len(tasks) > 1:
        where["name"] = escape(called)
    if len(models) > 1:
        where["model"] = escape(models.most_common(1)[0][0])
    erred = {"tool_errors": "turn"} if tasks[called].traffic.erred() else {}
    return {"format": formats.TRACES, **({"where": where} if where else {}), **erred}


def _newest(times: Sequence[float]) -> str | None:
    """The day, or else the minute, from which on about a quarter of the calls were made; None where times do not say."""
    ordered = sorted(times)
    if not ordered or ordered[0] == ordered[-1]:
        return None
    cut = ordered[int((1 - SPLITS["test"]) * len(ordered))]
    for grain in (86_400, 60, 1):
        start = cut - cut % grain
        share = sum(time >= start for time in ordered) / len(ordered)
        if TEST_SHARE[0] <= share <= TEST_SHARE[1]:
            return day(start)[:10] if grain == 86_400 else day(start)
    return None


def _notes(called: str | None, tasks: Mapping[str | None, Task]) -> Iterator[str]:
    """What the log holds beside what was chosen, and what a reader of the verdict should know."""
    task = tasks[called]
    others = [
        f"{about or 'unnamed'} {other.calls:,}" for about, other in tasks.items() if about != called and other.calls
    ]
    if others:
        yield f"the log has other calls, each a track of its own with where.name: {', '.join(others[:5])}"
    if len(task.traffic.models) > 1:
        yield f"several models answered ({task.traffic.models_in_words()}); the first is taken (where.model)"
    if erred := len(task.traffic.erred()):
        yield f"{erred:,} calls were answered with an error by a tool; they are left out (tool_errors)"
    yield "the answers are the logged replies, so what is measured is agreement with them (docs/traces.md)"


def _kind(seen: Mapping[str, Seen]) -> str:
    calls, objects = seen["toolcall"], seen["structured"]
    if calls.usable == objects.usable:
        return "toolcall" if calls.with_tools else "structured"
    return "toolcall" if calls.usable > objects.usable else "structured"


def _look(raw: object, kind: str, found: Seen, place: str) -> list[JsonObject] | None:
    """Count a row, read as one kind; gives its messages if it can be used."""
    try:
        if isinstance(raw, Unusable):
            raise raw
        row = formats.parse(raw, kind)
        text = canonical(row.answer)
    except (Unusable, ValueError) as problem:
        code = problem.code if isinstance(problem, Unusable) else "number"
        found.bad[code] += 1
        found.first.setdefault(code, f"{place}: {problem}")
        return None
    found.usable += 1
    found.formats[row.format] += 1
    found.with_tools += bool(row.tools)
    found.with_schema += row.schema is not None
    found.answer_tokens = max(found.answer_tokens, text_tokens(text))
    return row.messages


def _limit(tokens: int) -> int:
    """Twice the longest answer, to the next multiple of 32: tokenizers differ, and a cut answer is a wrong one."""
    low, high = ANSWER_TOKENS
    return min(high, max(low, 32 * math.ceil(2 * tokens / 32)))


def _as_glob(path: str) -> str:
    """What a source calls the files: a file that is there means itself, though its name would read as a glob."""
    return escape(path) if Path(path).exists() else path


def _split_of(path: str) -> str | None:
    """The split that whole words of a file's name say; None where they say none, or several."""
    words = re.findall(r"[^\W\d_]+", Path(path).name.lower())
    said = {NAMES[word] for word in words if word in NAMES}
    return said.pop() if len(said) == 1 else None


def track_name(path: str) -> str:
    """A track's name from a file's: its stem in small letters, without what says a split."""
    stem = Path(path).name.partition(".")[0].lower()
    stem = re.sub(rf"((?<![^\W\d_])({'|'.join(NAMES)})[\W\d_]*)+$", "", stem)
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem).strip("-")
    return name or "mine"
