"""Texts of rows without what must not be written: every match of a source's patterns replaced."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject
from fledgling.data.formats import Parsed
from fledgling.data.table import hash64

INSTEAD = "[redacted]"
_NAMES = frozenset(("name", "type", "role"))  # what tools and schemas are called by


class Redactor:
    """Replaces what the patterns match in the rows of a track of `kind`, and counts how many texts that changed."""

    def __init__(self, patterns: Sequence[str], kind: str) -> None:
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self._kind = kind
        self.changed = 0

    def text(self, value: str) -> str:
        """A text without matches."""
        made = value
        for pattern in self._patterns:
            made = pattern.sub(INSTEAD, made)
        self.changed += made != value
        return made

    def identity(self, value: str) -> str:
        """A text that tells things apart, and still does: with a digest of what it was."""
        made = self.text(value)
        return value if made == value else f"{made}-{hash64(value):016x}"

    def row(self, row: Parsed) -> Parsed:
        """A row without matches: in its messages, answer, schema and tools; what tools are called stays."""
        if not self._patterns:
            return row
        return replace(
            row,
            id=self.identity(row.id) if isinstance(row.id, str) else row.id,
            record=None if row.record is None else self.identity(row.record),
            messages=[self._turn(turn) for turn in row.messages],
            answer=self._answer(row.answer),
            allowed=cast(list[JsonObject] | None, self._answer(cast(Json, row.allowed))),
            tools=cast(list[JsonObject] | None, self._value(cast(Json, row.tools), keys=False)),
            schema=self._value(row.schema, keys=False),
            category=None if row.category is None else self.text(row.category),
        )

    def _turn(self, turn: JsonObject) -> JsonObject:
        made = dict(turn)
        if isinstance(turn.get("content"), str):
            made["content"] = self.text(str(turn["content"]))
        if isinstance(turn.get("name"), str) and turn["role"] != "tool":
            made["name"] = self.text(str(turn["name"]))
        if isinstance(turn.get("tool_calls"), list):
            made["tool_calls"] = [self._call(cast(JsonObject, call)) for call in cast(list[Json], turn["tool_calls"])]
        return made

    def _call(self, call: JsonObject) -> JsonObject:
        function = cast(JsonObject, call["function"])
        before = strict_json.loads(str(function["arguments"]) or "{}")
        after = self._value(before)
        written = function["arguments"] if after == before else strict_json.dumps(after)
        return {**call, "function": {**function, "arguments": written}}

    def _answer(self, answer: Json) -> Json:
        """An answer; of calls only the arguments."""
        if self._kind != "toolcall" or not isinstance(answer, list):
            return self._value(answer)
        return [{**call, "arguments": self._value(call["arguments"])} for call in cast(list[JsonObject], answer)]

    def _value(self, value: Json, keys: bool = True) -> Json:
        """A value with its texts replaced; where they are data too, also numbers and the keys of its objects."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._value(item, keys) for item in value]
        if not isinstance(value, dict):
            return self._number(value) if keys and not isinstance(value, bool | None) else value
        if keys:
            return self._object(value)
        return {
            key: item if key in _NAMES and isinstance(item, str) else self._value(item, keys)
            for key, item in value.items()
        }

    def _number(self, value: Json) -> Json:
        written = strict_json.dumps(value)
        made = self.text(written)
        return value if made == written else made

    def _object(self, value: JsonObject) -> JsonObject:
        """An object with keys and values replaced; keys that are alike then are told apart by a digest."""
        made: JsonObject = {}
        for key, item in value.items():
            name = self.text(key)
            if name in made:
                name = f"{name}-{hash64(key):016x}"
            made[name] = self._value(item)
        return made
