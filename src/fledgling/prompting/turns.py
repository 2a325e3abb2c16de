"""How a row's JSON Schema is put to a contender: the same words for the teacher and for the slm."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from fledgling.files import Object
from fledgling.records import Example
from fledgling.tracks.declared import described

SENTENCE = "Answer with one JSON {} that matches this JSON Schema:"

Place = Literal["system", "none"]


def schema_place(prompt: Mapping[str, Any]) -> Place:
    """Where a track's `prompt` block puts the schema of its rows: the system message, unless it says none."""
    return "none" if prompt.get("schema") == "none" else "system"


def messages(example: Example, place: Place) -> list[Object]:
    """The turns of a row as every contender gets them, with its schema, if it has one, in its place."""
    if place == "none" or example.schema is None:
        return example.messages
    return with_schema(example.messages, example.schema)


def with_schema(messages: list[Object], schema: Any) -> list[Object]:
    """The messages with the schema at the end of the system message, which is put first where there is none."""
    sentence = SENTENCE.format(described(schema))
    text = f"{sentence}\n{json.dumps(schema, ensure_ascii=False, separators=(',', ':'))}"
    if messages and messages[0]["role"] in ("system", "developer"):
        before = text_of(messages[0].get("content"))
        first = {**messages[0], "content": f"{before}\n\n{text}" if before else text}
        return [first, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def text_of(content: object) -> str:
    """The text of a message's content: as it is, or the text of OpenAI's content parts, one behind the other."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
