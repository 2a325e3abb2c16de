"""Floors: answers that need no model. A contender that does not beat every one of them proves nothing.

echo      copies the prompt. structured: every property of the schema, filled from the last user message.
          toolcall: the tool whose name and description share most words of three letters or more with that message, its arguments likewise.
frequent  the answer that occurs most often in train, of those that fit: under the row's schema, with the row's tools.
empty     structured: the smallest object that the schema's required properties allow, or an empty array.
          toolcall: without arguments, the tool that train calls most often of those offered (the first, if it
          calls none of them); no call where most rows of train have none.

A property is filled from a message as its type allows: an enum by its first value that the message contains, else by
its first; text by the whole message; a number by the first number in it, else by 0; a boolean is true; an array is
empty or holds the enum values that the message contains; an object is filled likewise.
"""

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fledgling import strict_json
from fledgling.errors import UsageError
from fledgling.files import Object
from fledgling.records import Example, Prediction
from fledgling.tracks.declared import described

FLOORS = ("echo", "frequent", "empty")
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?")
_WORD = re.compile(r"[a-z0-9]{3,}")
_EMPTY = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": [], "object": {}}


def answers(floor: str, track_kind: str, train: Iterable[Example], test: Iterable[Example]) -> Iterator[Prediction]:
    """One prediction per example of `test`, the same for the same input; `train` may be empty.

    Raises:
        UsageError: no floor is called so.
    """
    if floor not in FLOORS:
        raise UsageError(f"no floor is called {floor!r}; there are {', '.join(FLOORS)}")
    toolcall = track_kind == "toolcall"
    answer: Callable[[Example], Any]
    if floor == "echo":
        answer = _echo_call if toolcall else _echo
    elif floor == "frequent":
        answer = _frequent_calls(train) if toolcall else _frequent(train)
    else:
        answer = _bare_call(train) if toolcall else _smallest_of
    for example in test:
        raw = strict_json.dumps(answer(example))
        yield Prediction(id=example.id, outcome="ok", raw=raw, model=f"floor-{floor}", fingerprint=f"floor-{floor}")


def _frequent(train: Iterable[Example]) -> Callable[[Example], Any]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for example in train:
        counts[strict_json.dumps(example.schema)][strict_json.dumps(example.answer)] += 1
    common = {schema: strict_json.loads(answers.most_common(1)[0][0]) for schema, answers in counts.items()}
    return lambda example: common.get(strict_json.dumps(example.schema), [] if _asks_array(example) else {})


def _frequent_calls(train: Iterable[Example]) -> Callable[[Example], Any]:
    counts = Counter(strict_json.dumps(example.answer) for example in train if example.answer is not None)
    ranked = [strict_json.loads(text) for text, _ in counts.most_common()]  # equal counts in the order of train
    needs = [{call["name"] for call in calls} for calls in ranked]

    @functools.lru_cache(maxsize=4096)
    def fitting(offered: frozenset[str]) -> Any:
        return next((calls for calls, names in zip(ranked, needs, strict=True) if names <= offered), [])

    return lambda example: fitting(frozenset(_offered(example)))


def _bare_call(train: Iterable[Example]) -> Callable[[Example], Any]:
    gold = [example.answer for example in train if example.answer is not None]
    called = Counter(call["name"] for calls in gold for call in calls)
    silent = 2 * sum(calls == [] for calls in gold) > len(gold)

    def answer(example: Example) -> list[Object]:
        names = _offered(example)
        return [{"name": max(names, key=lambda name: called[name]), "arguments": {}}] if names and not silent else []

    return answer


def _offered(example: Example) -> list[str]:
    return [tool["function"]["name"] for tool in example.tools or []]


def _echo(example: Example) -> Any:
    said = _said(example)
    return _copied({**example.schema, "type": "array"}, said) if _asks_array(example) else _filled(example.schema, said)


def _smallest_of(example: Example) -> Any:
    return [] if _asks_array(example) else _smallest(example.schema)


def _asks_array(example: Example) -> bool:
    return described(example.schema) == "array"


def _said(example: Example) -> str:
    return next((str(turn.get("content") or "") for turn in reversed(example.messages) if turn["role"] == "user"), "")


def _echo_call(example: Example) -> list[Object]:
    said = _said(example)
    words = set(_WORD.findall(said.lower()))
    tools = [tool["function"] for tool in example.tools or []]
    if not tools:
        return []
    tool = max(
        tools,
        key=lambda tool: len(words & set(_WORD.findall(f"{tool['name']} {tool.get('description', '')}".lower()))),
    )
    return [{"name": tool["name"], "arguments": _filled(tool.get("parameters"), said, required_only=True)}]


def _filled(schema: Any, said: str, *, required_only: bool = False) -> Object:
    schema = schema if isinstance(schema, dict) else {}
    properties = schema.get("properties") or {}
    names = schema.get("required") or [] if required_only else properties
    return {name: _copied(properties[name], said) for name in names if name in properties}


def _copied(schema: Any, said: str) -> Any:
    schema = schema if isinstance(schema, dict) else {}
    kind = _type(schema)
    if kind == "array":
        items = schema.get("items")
        options = items.get("enum") or [] if isinstance(items, dict) else []
        return [option for option in options if str(option).lower() in said.lower()]
    if options := schema.get("enum"):
        return next((option for option in options if str(option).lower() in said.lower()), options[0])
    if kind == "object":
        return _filled(schema, said)
    if kind in ("integer", "number"):
        found = _NUMBER.search(said)
        number = float(found[0]) if found else 0.0
        return int(number) if kind == "integer" or number.is_integer() else number
    return True if kind == "boolean" else None if kind == "null" else said


def _smallest(schema: Any) -> Object:
    schema = schema if isinstance(schema, dict) else {}
    properties = schema.get("properties") or {}
    return {name: _least(properties.get(name)) for name in schema.get("required") or []}


def _least(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = _type(schema)
    return _smallest(schema) if kind == "object" else _EMPTY.get(kind)


def _type(schema: Object) -> str:
    """The type of a property: of several the first that is not null, without one text."""
    kind = schema.get("type", "string")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    return str(kind)
