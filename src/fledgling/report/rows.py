"""The rows of a split as compact data, small enough for a page that goes by mail; the page's script shows them.

A row is {"id", "q", "s", "k", "f"} and, where there is anything to say, {"v", "w", "m", "t", "r", "n", "x"}:
q the last question; s how each contender ended (STATES, by first letter); v scores that are neither 0 nor 1, in
percent; w why it is not right (numbers into `reasons`, null: nothing to say); k its slices (numbers into `slices`);
f the fields [path, gold, [a cell a contender]]: 0 says what gold says, null is unread, else [state's letter, value];
m the rest of the prompt [role, number into `texts`]; t its tools (a number into `texts`); r raw replies;
n notes (numbers into `notes`); x how many fields were left out.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from fledgling.artefacts import JsonObject
from fledgling.report import diff, text, words
from fledgling.report.load import TEACHER, Inputs
from fledgling.report.side_by_side import Answer, Row, rows

BUDGET = 4_000_000  # characters of data that one page carries
LEAST = 3  # static rows of each kind
MESSAGES = 8  # messages of a prompt that are kept, the last ones
NOTES = (
    "Teacher and a contender give the same answer here and gold another: look at gold first.",
    "Every field is as gold says, yet the row does not count: its own rules refuse its gold.",
)
Cell = int | None | tuple[str, str]


class Compact(TypedDict):
    """One row; see the module's first lines."""

    id: str
    q: str
    s: str
    k: list[int]
    f: list[tuple[str, str, list[Cell]]]
    v: NotRequired[list[str | None]]
    w: NotRequired[list[int | None]]
    m: NotRequired[list[tuple[str, int]]]
    t: NotRequired[int]
    r: NotRequired[list[str]]
    n: NotRequired[list[int]]
    x: NotRequired[int]


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a row is kept: characters of a question, a reply and a value; fields."""

    question: int
    reply: int
    value: int
    fields: int


SIZES = (Size(3_000, 1_500, 200, 40), Size(1_200, 400, 120, 24), Size(400, 0, 80, 10))


@dataclass(slots=True)
class Table:
    """All rows of a split with the texts that many of them share."""

    labels: list[str]
    decisive: int
    rows: list[Compact] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    slices: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=lambda: list(NOTES))
    left_out: int = 0
    shortened: bool = False

    def json(self) -> str:
        """The data as text that may stand inside a script element: nothing in it ends one."""
        return _dump({name: getattr(self, name) for name in self.__slots__})


def table(inputs: Inputs) -> Table:
    """The rows at the largest size that fits; where none does, rows that all have right are left out first."""
    made = _made(inputs, SIZES[0])
    for size in SIZES[1:]:
        if len(made.json()) <= BUDGET:
            return made
        made = _made(inputs, size)
        made.shortened = True
    sizes = [len(_dump(row)) for row in made.rows]
    over = len(made.json()) - BUDGET
    dropped: set[int] = set()
    for parted in (False, True):
        for place in range(len(made.rows) - 1, -1, -1):
            if over > 0 and parted == (set(made.rows[place]["s"]) != {"r"}):
                dropped.add(place)
                over -= sizes[place]
    made.rows = [row for place, row in enumerate(made.rows) if place not in dropped]
    made.left_out = len(dropped)
    return made


def _made(inputs: Inputs, size: Size) -> Table:
    names = inputs.answerers
    labels = [TEACHER, *(text.clean(rung["label"], 60) for rung in inputs.ladder)]
    made = Table(labels, names.index(inputs.verdict["decisive"]))
    suspects = frozenset(suspect["id"] for suspect in inputs.verdict["suspected_label_errors"])
    places: dict[str, dict[str, int]] = {"texts": {}, "reasons": {}, "slices": {}}
    for row in rows(inputs):
        made.rows.append(_compact(row, names, size, places, suspect=row.id in suspects))
    made.texts, made.reasons, made.slices = (list(places[name]) for name in ("texts", "reasons", "slices"))
    return made


def _compact(row: Row, names: list[str], size: Size, places: Mapping[str, dict[str, int]], *, suspect: bool) -> Compact:
    answers = [row.answers[name] for name in names]
    messages = row.example["messages"]
    asked = next(
        (at for at in range(len(messages) - 1, -1, -1) if messages[at].get("role") == "user"), len(messages) - 1
    )
    made: Compact = {
        "id": text.clean(row.id, 120),
        "q": _message(messages[asked], size.question) if messages else "",
        "s": "".join(answer.state[0] for answer in answers),
        "k": [
            _number(places["slices"], f"{words.dimension(key)}: {text.clean(value, 80)}") for key, value in _slices(row)
        ],
        "f": [_field(line, names, size) for line in _chosen(row.lines, size)],
    }
    if any(answer.score not in (0, 1) for answer in answers):
        made["v"] = [None if answer.score in (0, 1) else text.percent(answer.score, 0) for answer in answers]
    if any(answer.scored["reason"] for answer in answers):
        made["w"] = [_reason(answer, places["reasons"]) for answer in answers]
    rest = [(at, message) for at, message in enumerate(messages) if at != asked][-MESSAGES:]
    if rest:
        made["m"] = [
            (text.clean(str(message.get("role")), 40), _number(places["texts"], _message(message, size.question)))
            for _, message in rest
        ]
    if tools := row.example.get("tools"):
        made["t"] = _number(places["texts"], ", ".join(_tool(tool) for tool in tools[:60]))
    if size.reply and any(answer.raw for answer in answers):
        made["r"] = [
            answer.raw if len(answer.raw) <= size.reply else f"{answer.raw[: size.reply]} …" for answer in answers
        ]
    if len(row.lines) > size.fields:
        made["x"] = len(row.lines) - size.fields
    notes = [number for number, holds in enumerate((suspect, _refused(row))) if holds]
    if notes:
        made["n"] = notes
    return made


def _slices(row: Row) -> list[tuple[str, str]]:
    return [(key, str(value)) for key, value in row.answers[TEACHER].scored["slice"].items() if value is not None]


def _refused(row: Row) -> bool:
    """Whether somebody says exactly what gold says and is not right."""
    return bool(row.lines) and any(
        answer.read and answer.score < 1 and all(line.cells[name].state == "same" for line in row.lines)
        for name, answer in row.answers.items()
    )


def _reason(answer: Answer, places: dict[str, int]) -> int | None:
    reason = answer.scored["reason"]
    return _number(places, text.clean(words.reason(reason), 80)) if reason else None


def _number(places: dict[str, int], words: str) -> int:
    return places.setdefault(words, len(places))


def _chosen(lines: tuple[diff.Line, ...], size: Size) -> list[diff.Line]:
    """As many fields as are kept; where there are too many, those on which somebody parts from gold come first."""
    if len(lines) <= size.fields:
        return list(lines)
    return sorted(lines, key=lambda line: line.agreed)[: size.fields]


def _field(line: diff.Line, names: list[str], size: Size) -> tuple[str, str, list[Cell]]:
    gold = " or ".join(text.value(item, size.value) for item in line.gold[:6])
    if line.optional:
        gold += ", or left out"
    return (
        text.clean(line.path or "(whole answer)", 120),
        gold,
        [_cell(line.cells.get(name), line, size) for name in names],
    )


def _cell(cell: diff.Cell | None, line: diff.Line, size: Size) -> Cell:
    if cell is None:
        return None
    if cell.state in ("missing", "absent"):
        return "m" if cell.state == "missing" else "-", ""
    shown = text.value(cell.value, size.value)
    if cell.state == "same" and len(line.gold) == 1 and not line.optional:
        return 0
    return {"same": "=", "alike": "~", "different": "x", "extra": "+"}[cell.state], shown


def _message(message: JsonObject, limit: int) -> str:
    content, calls = message.get("content"), message.get("tool_calls")
    parts = [text.plain("" if content is None else content, limit), text.plain(calls, limit) if calls else ""]
    return "\n".join(filter(None, parts))


def _tool(tool: JsonObject) -> str:
    function = tool.get("function", tool)
    return text.clean(str(function.get("name") if isinstance(function, dict) else function), 80)


@dataclass(frozen=True, slots=True)
class First:
    """Rows of one kind for paper and for pages without a script: how many there are, and the first by hash."""

    heading: str
    total: int
    fine: bool
    rows: list[Compact]


def first(table: Table, right: str = "right") -> list[First]:
    """A few rows of each kind of disagreement, by the smallest sha256 of their ids: nobody picks them."""
    other = table.labels[table.decisive]
    both = f"{text.capital(TEACHER)} and {other} are both"
    kinds = {
        ("r", False): f"The teacher is {right}, {other} is not",
        ("", True): f"{text.capital(other)} is {right}, the teacher is not",
        ("", False): f"{both} not {right}",
        ("r", True): f"{both} {right}",
    }
    found = []
    for (teacher, contender), heading in kinds.items():
        mine = [
            row
            for row in table.rows
            if (row["s"][0] == "r") == bool(teacher) and (row["s"][table.decisive] == "r") == contender
        ]
        if mine:
            limit = LEAST if (teacher, contender) == ("r", False) else 1
            found.append(First(heading, len(mine), bool(teacher) and contender, sorted(mine, key=_rank)[:limit]))
    return found


def _rank(row: Compact) -> bytes:
    return hashlib.sha256(row["id"].encode("utf-8", "replace")).digest()


def _dump(value: object) -> str:
    """JSON in which `<`, `>` and `&` are escapes, so that no text in it is markup."""
    shown = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return shown.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
