"""How a row's JSON Schema is put to a contender: the same words for the teacher and for the slm."""

import json
from typing import Any

SENTENCE = "Answer with one JSON object that matches this JSON Schema:"


def with_schema(messages: list[dict[str, Any]], schema: Any) -> list[dict[str, Any]]:
    """The messages with the schema at the end of the system message, which is put first where there is none."""
    text = f"{SENTENCE}\n{json.dumps(schema, ensure_ascii=False, separators=(',', ':'))}"
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]
