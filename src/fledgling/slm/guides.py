"""What an answer may be, as a grammar that both engines decode within: the row's schema, or calls of its tools.

A guide is a structural tag of xgrammar (JSON text; vLLM takes the same). It follows the model's own dialect: where
calls begin, what stands between a name and its arguments, how several are told apart, is read off what the model's
chat template writes for two calls.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from fledgling.files import Object
from fledgling.prompting.template import Chat
from fledgling.records import Example

NAMES = ("fledgling_first", "fledgling_second")
ARGUMENTS = re.compile(r'\{\s*"fledgling"\s*:\s*1\s*\}')
ID = re.compile(r"call\d{5}")  # what Chat makes up for a call without an id
# An answer in words: nothing in it may be taken for a call.
WORDS = r"[^\s<{\[(`\"][^<{\[(`]*"
SPACES = {"compact": (",", ":"), "spaced": (", ", ": ")}
# xgrammar takes any of these between quotes: bare control characters where a string is bounded, halves of a surrogate
# pair everywhere, which are no JSON and no text; and in a bounded string no escape, so that no quote can be written.
LOOSE = (r"(([^\"\\\r\n]))", r"[^\0-\x1f\"\\\r\n]")
CHARACTER = r"[ !#-\[\]-\ud7ff\ue000-\U0010ffff]"
BOUNDED = rf'(({CHARACTER}) | ("\\" bounded_escape))'
HEX = "[A-Fa-f0-9]"
# An escape is one character: no pair of surrogates, which would be counted as two.
ESCAPE = rf"""
bounded_escape ::= (([\"\\/bfnrt]) | ("u" [A-CE-Fa-ce-f0-9] {HEX} {HEX} {HEX}) | ("u" [Dd] [0-7] {HEX} {HEX}))
"""

Tag = Object


class Unguided(Exception):
    """A schema that no grammar can be made of; says why."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a model writes calls: begin NAME middle ARGUMENTS (between NAME middle ARGUMENTS)* end."""

    begin: str
    middle: str
    between: str
    end: str


class Guides:
    """Makes the guide of each row for one model's dialect; equal schemas are read once."""

    def __init__(self, chat: Chat) -> None:
        self._opening = chat.opening()
        self._chat = chat
        self._form: Form | None = None
        self._known: dict[str, str] = {}

    def guide(self, example: Example) -> str | None:
        """The guide of a row; None where its answers may be anything (structured rows without a schema).

        Raises:
            Unguided: its schema, or a tool's, has no grammar.
        """
        if example.schema is not None:
            return self._text(self._json(example.schema, "compact"))
        if example.is_json:
            return None
        words: Tag = {"type": "regex", "pattern": WORDS}
        return self._text({"type": "or", "elements": [self._calls(example.tools), words]} if example.tools else words)

    def _text(self, answer: Tag) -> str:
        space: Tag = {"type": "regex", "pattern": r"\n{0,2}"}
        thought: Tag = {"type": "tag", "begin": "<think>", "content": {"type": "any_text"}, "end": "</think>"}
        if self._opening.thought == "open":
            answer = _sequence(thought | {"begin": ""}, space, answer)
        elif self._opening.thought == "empty":
            answer = _sequence({"type": "optional", "content": _sequence(thought, space)}, answer)
        if self._opening.space:
            answer = _sequence({"type": "optional", "content": _constant(self._opening.space)[0]}, answer)
        return json.dumps({"type": "structural_tag", "format": answer}, ensure_ascii=False)

    def _calls(self, tools: list[Object]) -> Tag:
        form = self._form = self._form or form_of(self._chat)
        spaces = "compact" if self._chat.manner.calls == "phi4" else "spaced"
        each = []
        for tool in tools:
            function = tool.get("function", tool)
            schema = function.get("parameters") or {"type": "object", "properties": {}}
            name = json.dumps(function["name"], ensure_ascii=False)[1:-1]
            each.append(_sequence(*_constant(name + form.middle), self._json(schema, spaces)))
        one = each[0] if len(each) == 1 else {"type": "or", "elements": each}
        more: Tag = {"type": "star", "content": _sequence(*_constant(form.between), one)}
        return _sequence(*_constant(form.begin), one, more, *_constant(form.end))

    def _json(self, schema: Any, spaces: str) -> Tag:
        import xgrammar

        text = json.dumps(schema, ensure_ascii=False)
        if (known := self._known.get(spaces + text)) is None:
            try:
                made = str(xgrammar.Grammar.from_json_schema(text, any_whitespace=False, separators=SPACES[spaces]))
            except (RuntimeError, ValueError, TypeError) as error:
                raise Unguided(" ".join(str(error).split())[:300]) from None
            known = self._known[spaces + text] = strict(made)
        return {"type": "grammar", "grammar": known}


def strict(grammar: str) -> str:
    """A grammar of xgrammar's for a JSON Schema, with strings as RFC 8259 has them, bounded ones in whole characters."""
    bounded, free = LOOSE
    return grammar.replace(bounded, BOUNDED).replace(free, CHARACTER) + (ESCAPE if bounded in grammar else "")


def form_of(chat: Chat) -> Form:
    """How a chat template, or we in its place, write calls: read off two of them.

    Raises:
        Unguided: names and arguments cannot be told apart in what it writes.
    """
    text = chat.calls_text([{"name": name, "arguments": {"fledgling": 1}} for name in NAMES])
    names = [text.find(name) for name in NAMES]
    arguments = [found.span() for found in ARGUMENTS.finditer(text)]
    if -1 in names or len(arguments) != 2 or not names[0] < arguments[0][0] < names[1] < arguments[1][0]:
        raise Unguided("the model's chat template writes calls in a form that no grammar is made of")
    return Form(
        begin=text[: names[0]],
        middle=text[names[0] + len(NAMES[0]) : arguments[0][0]],
        between=text[arguments[0][1] : names[1]],
        end=text[arguments[1][1] :],
    )


def _sequence(*elements: Tag) -> Tag:
    return elements[0] if len(elements) == 1 else {"type": "sequence", "elements": list(elements)}


def _constant(text: str) -> list[Tag]:
    """A fixed text, in which an id of a call may be any that the model makes up."""
    parts: list[Tag] = []
    start = 0
    for found in ID.finditer(text):
        parts += [{"type": "const_string", "value": text[start : found.start()]}] if found.start() > start else []
        parts.append({"type": "regex", "pattern": "[A-Za-z0-9]{9}"})
        start = found.end()
    return parts + ([{"type": "const_string", "value": text[start:]}] if start < len(text) else [])
