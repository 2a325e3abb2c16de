"""Rows side by side: an index of one track's test rows by byte offsets, so that 100,000 of them answer at once.

What is kept in memory a row: where its lines begin in each file, how each contender did, and a text to search in.
"""

import json
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fledgling.console.policy import Refused
from fledgling.console.reading import Object, items, loaded, obj, opened, real, regular, stamp, text

RIGHT, MISSING = 1, 2
OUTCOMES = ("ok", "empty", "length", "content_filter", "refusal", "error")
VALID = ("valid_call_rate", "json_valid_rate")
PRIMARY = {"toolcall": "ast_match_rate", "structured": "exact_match_rate"}
FILTERS = ("all", "differ", "wrong", "teacher-wrong", "both-wrong", "invalid", "filtered", "error")
PAGE = 25
MOST = 100  # rows of one answer
KEPT = 3  # tracks whose index stays in memory
SEARCHED = 600  # characters of a row's request and of each reply that can be searched


@dataclass
class Answers:
    """What one contender answered: line offsets, -1 where a row has no line."""

    name: str
    predictions: "array[int]"
    scores: "array[int]"
    marks: bytearray
    """1 right, 0 wrong, 2 no line."""
    outcome: bytearray
    """Place in OUTCOMES."""
    invalid: bytearray


@dataclass
class Index:
    """All rows of one track."""

    track: str
    ids: list[str]
    places: "array[int]"
    contenders: dict[str, Answers]
    metric: str
    haystack: bytes = b""
    starts: "array[int]" = field(default_factory=lambda: array("q"))
    last: tuple[tuple[str, str, str], list[int]] = (("", "", ""), [])


class Rows:
    """Indexes of the tracks of a folder, made when they are asked for and again when a file has changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kept: dict[str, tuple[object, Index]] = {}
        self._lock = threading.Lock()

    def index(self, track: str) -> Index:
        """The index of a track.

        Raises:
            Refused: 404 where the track has no test rows yet.
        """
        data = self._root / f"results/data/{track}/test.jsonl"
        if not regular(data):
            raise Refused(404, "no_rows", f"{track}: no test rows are built yet")
        predictions = self._root / "results/predictions" / track
        files = [
            data,
            *sorted(predictions.glob("*.jsonl")),
            *sorted((self._root / "results/metrics" / track).glob("*.jsonl")),
        ]
        state = [(str(file), stamp(file)) for file in files]
        with self._lock:
            found = self._kept.pop(track, None)
            if found is None or found[0] != state:
                found = (state, self._build(track, data))
            self._kept[track] = found
            while len(self._kept) > KEPT:
                self._kept.pop(next(iter(self._kept)))
            return found[1]

    def _build(self, track: str, data: Path) -> Index:
        ids, places, texts = [], array("q"), []
        kind = ""
        for place, row in _lines(data):
            ids.append(text(row.get("id")))
            places.append(place)
            kind = kind or ("toolcall" if isinstance(row.get("answer"), list) else "structured")
            said = " ".join(text(obj(message).get("content")) for message in items(row.get("messages"))[-2:])
            answer = json.dumps(row.get("answer"), ensure_ascii=False)
            texts.append(f"{ids[-1]} {said[-SEARCHED:]} {answer[:SEARCHED]}")
        metric = self._metric(track, kind)
        order = {name: number for number, name in enumerate(ids)}
        contenders: dict[str, Answers] = {}
        for file in sorted((self._root / "results/predictions" / track).glob("*.jsonl"), key=_rank):
            contenders[file.stem] = self._answers(track, file, order, metric, texts)
        starts, length = array("q"), 0
        parts = []
        for said in texts:
            part = said.lower().encode("utf-8", "replace") + b"\n"
            starts.append(length)
            length += len(part)
            parts.append(part)
        return Index(track, ids, places, contenders, metric, b"".join(parts), starts)

    def _metric(self, track: str, kind: str) -> str:
        """The core metric that says whether a row is right."""
        for kind_of_file in ("verdict", "compare"):
            value = loaded(self._root / f"results/{kind_of_file}/{track}.json")
            if core := [text(name) for name in items(value.get("core"))]:
                return core[0]
        return PRIMARY.get(kind, "exact_match_rate")

    def _answers(self, track: str, file: Path, order: dict[str, int], metric: str, texts: list[str]) -> Answers:
        count = len(order)
        made = Answers(
            file.stem,
            array("q", [-1]) * count,
            array("q", [-1]) * count,
            bytearray([MISSING]) * count,
            bytearray(count),
            bytearray(count),
        )
        searched = not file.stem.startswith("floor-")
        for place, line in _lines(file):
            number = order.get(text(line.get("id")))
            if number is None:
                continue
            made.predictions[number] = place
            outcome = text(line.get("outcome"))
            made.outcome[number] = OUTCOMES.index(outcome) if outcome in OUTCOMES else OUTCOMES.index("error")
            if searched and (raw := line.get("raw")):
                texts[number] += f" {str(raw)[:SEARCHED]}"
        scores = self._root / "results/metrics" / track / file.name
        if regular(scores):
            for place, line in _lines(scores):
                number = order.get(text(line.get("id")))
                if number is None:
                    continue
                rates = obj(line.get("scores"))
                made.scores[number] = place
                made.marks[number] = RIGHT if (real(rates.get(metric)) or 0) >= 1 else 0
                made.invalid[number] = any((real(rates[name]) or 0) < 1 for name in VALID if name in rates)
        return made

    def page(self, track: str, chosen: str, contender: str, query: str, offset: int, limit: int) -> Object:
        """A page of the rows that a filter and a search leave.

        Raises:
            Refused: 400 for an unknown filter or contender, 404.
        """
        index = self.index(track)
        contender = contender or default_contender(index)
        if chosen not in FILTERS or (contender and contender not in index.contenders):
            raise Refused(400, "filter", f"filters are {', '.join(FILTERS)}; contenders {', '.join(index.contenders)}")
        found = matching(index, chosen, contender, query[:200])
        offset, limit = max(offset, 0), min(max(limit, 1), MOST)
        rows = found[offset : offset + limit]
        requests = self._requests(index, rows)
        return {
            "track": track,
            "filter": chosen,
            "contender": contender,
            "query": query[:200],
            "contenders": list(index.contenders),
            "metric": index.metric,
            "total": len(index.ids),
            "matching": len(found),
            "offset": offset,
            "rows": [
                {
                    "number": number,
                    "id": index.ids[number],
                    "request": request,
                    "marks": {name: mark(answers, number) for name, answers in index.contenders.items()},
                }
                for number, request in zip(rows, requests, strict=True)
            ],
        }

    def _requests(self, index: Index, rows: list[int]) -> list[str]:
        with opened(self._root / f"results/data/{index.track}/test.jsonl") as stream:
            return [last_request(line_at(stream, index.places[number]))[:300] for number in rows]

    def row(self, track: str, number: int) -> Object:
        """One row with every contender's answer.

        Raises:
            Refused: 404.
        """
        index = self.index(track)
        if not 0 <= number < len(index.ids):
            raise Refused(404, "not_found", "no such row")
        with opened(self._root / f"results/data/{track}/test.jsonl") as stream:
            data = line_at(stream, index.places[number])
        answers: list[Object] = []
        for name, found in index.contenders.items():
            predicted = self._line(f"results/predictions/{track}/{name}.jsonl", found.predictions[number])
            scored = self._line(f"results/metrics/{track}/{name}.jsonl", found.scores[number])
            answers.append(
                {
                    "contender": name,
                    "mark": mark(found, number),
                    "outcome": predicted.get("outcome"),
                    "raw": predicted.get("raw"),
                    "toolCalls": predicted.get("tool_calls"),
                    "parsed": scored.get("parsed"),
                    "reason": scored.get("reason"),
                    "scores": scored.get("scores"),
                    "latency": predicted.get("latency_s"),
                    "usage": predicted.get("usage"),
                    "difference": differences(data.get("answer"), scored.get("parsed")),
                }
            )
        return {
            "track": track,
            "number": number,
            "id": index.ids[number],
            "messages": data.get("messages"),
            "answer": data.get("answer"),
            "allowed": data.get("allowed"),
            "schema": data.get("schema"),
            "tools": [obj(obj(tool).get("function")).get("name") for tool in items(data.get("tools"))],
            "answers": answers,
        }

    def _line(self, path: str, place: int) -> Object:
        if place < 0:
            return {}
        with opened(self._root / path) as stream:
            return line_at(stream, place)


def _rank(file: Path) -> tuple[int, str]:
    """The teacher first, floors last."""
    return (0 if file.stem == "teacher" else 9 if file.stem.startswith("floor-") else 1), file.stem


def _lines(path: Path) -> Iterator[tuple[int, Object]]:
    """(byte offset, object) of each line that is one; a file that is being written ends where it ends."""
    place = 0
    with opened(path) as stream:
        for line in stream:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                yield place, value
            place += len(line)


def line_at(stream: BinaryIO, place: int) -> Object:
    """The object on the line that begins at a byte."""
    stream.seek(place)
    try:
        return obj(json.loads(stream.readline()))
    except (ValueError, RecursionError):
        return {}


def last_request(data: Object) -> str:
    """What was asked last, on one line."""
    asked = [
        text(obj(message).get("content"))
        for message in items(data.get("messages"))
        if obj(message).get("role") == "user"
    ]
    return " ".join(asked[-1].split()) if asked else ""


def mark(answers: Answers, number: int) -> str:
    """right, wrong, invalid, an outcome that is no answer, or missing."""
    if answers.predictions[number] < 0:
        return "missing"
    if outcome := answers.outcome[number]:
        return OUTCOMES[outcome]
    if answers.marks[number] == MISSING:
        return "unscored"
    if answers.marks[number] == RIGHT:
        return "right"
    return "invalid" if answers.invalid[number] else "wrong"


def default_contender(index: Index) -> str:
    """The contender that is looked at where none was chosen: the last one that was trained, else the slm."""
    names = [name for name in index.contenders if name != "teacher" and not name.startswith("floor-")]
    return names[-1] if names else next(iter(index.contenders), "")


def matching(index: Index, chosen: str, contender: str, query: str) -> list[int]:
    """Numbers of the rows that a filter and a search leave; the last answer is remembered for the next page."""
    key = (chosen, contender, query)
    if index.last[0] == key:
        return index.last[1]
    found = _filtered(index, chosen, contender)
    if words := query.lower().encode("utf-8", "replace").strip().replace(b"\n", b" "):
        hits = _search(index, words)
        found = [number for number in found if number in hits]
    index.last = (key, found)
    return found


def _filtered(index: Index, chosen: str, contender: str) -> list[int]:
    everything = range(len(index.ids))
    if chosen == "all" or contender not in index.contenders:
        return list(everything)
    one, teacher = index.contenders[contender], index.contenders.get("teacher")
    if chosen == "wrong":
        return [number for number, mark in enumerate(one.marks) if mark != RIGHT]
    if chosen == "invalid":
        return [number for number, bad in enumerate(one.invalid) if bad]
    if chosen in ("filtered", "error"):
        wanted = OUTCOMES.index("content_filter") if chosen == "filtered" else OUTCOMES.index("error")
        return [number for number, outcome in enumerate(one.outcome) if outcome == wanted]
    if teacher is None:
        return []
    pairs = enumerate(zip(teacher.marks, one.marks, strict=True))
    if chosen == "teacher-wrong":
        return [number for number, (theirs, _) in pairs if theirs != RIGHT]
    if chosen == "both-wrong":
        return [number for number, (theirs, ours) in pairs if theirs != RIGHT and ours != RIGHT]
    return [number for number, (theirs, ours) in pairs if theirs != ours]


def _search(index: Index, words: bytes) -> set[int]:
    found: set[int] = set()
    place = index.haystack.find(words)
    while place >= 0:
        number = bisect_right(index.starts, place) - 1
        found.add(number)
        after = index.starts[number + 1] if number + 1 < len(index.starts) else len(index.haystack)
        place = index.haystack.find(words, after)
    return found


def differences(gold: object, given: object, place: str = "") -> list[Object]:
    """Where an answer differs from the gold one, field by field: {"field", "gold", "given"} as JSON texts."""
    if isinstance(gold, dict) and isinstance(given, dict):
        return [
            difference
            for key in [*gold, *(key for key in given if key not in gold)]
            for difference in differences(
                gold.get(key, _NONE), given.get(key, _NONE), f"{place}.{key}" if place else str(key)
            )
        ]
    if isinstance(gold, list) and isinstance(given, list) and len(gold) == len(given):
        return [
            difference
            for number, (a, b) in enumerate(zip(gold, given, strict=True))
            for difference in differences(a, b, f"{place}[{number}]")
        ]
    if gold == given and type(gold) is type(given):
        return []
    return [{"field": place or "answer", "gold": _shown(gold), "given": _shown(given)}]


_NONE = object()


def _shown(value: object) -> str:
    return "—" if value is _NONE else json.dumps(value, ensure_ascii=False)
