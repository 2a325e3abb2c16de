"""A reply that came as a stream of events although none was asked for, put together as the completion that it is."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from fledgling.files import Object

_STARTS = ("data:", "event:", "id:", "retry:", ":")  # of a line of a stream (HTML's server-sent events)
_OF_CALL = ("id", "type", "index")
_LINE_END = re.compile(r"\r\n|\n|\r")  # and no other: U+2028 and its like stand in the text of a reply


def is_stream(text: str) -> bool:
    """Whether a body is a stream of events."""
    return text.lstrip()[:6].startswith(_STARTS)


def whole(text: str, loads: Callable[[str], Any] = json.loads) -> Object:
    """The body of a chat completion whose chunks the events hold; choices other than the first (index 0) are left out.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: no such chunks, or the stream broke off.
    """
    body: Object = {}
    message: Object = {"role": "assistant", "content": None}
    calls: dict[str, Object] = {}
    finish, done, chosen = None, False, False
    for event in _events(text):
        if event == "[DONE]":
            done = True
            break
        chunk = loads(event)
        body |= {name: value for name, value in chunk.items() if value is not None and name != "choices"}
        for choice in (chunk.get("choices") or [])[:1]:
            if str(choice.get("index") or 0) != "0":
                continue
            chosen = True
            finish = choice.get("finish_reason") or finish
            _add(message, calls, choice.get("delta") or choice.get("message") or {})
    if not (done or finish) or not (body or chosen):
        raise ValueError("the stream broke off")
    if calls:
        message["tool_calls"] = list(calls.values())
    return body | {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def _events(text: str) -> Iterator[str]:
    """The data of each event that has some."""
    for line in _LINE_END.split(text):
        if line.startswith("data:") and (data := line[len("data:") :].strip()):
            yield data


def _add(message: Object, calls: dict[str, Object], delta: Object) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for position, part in enumerate(value or []):
                _add_call(calls.setdefault(_place(calls, str(part.get("index", position)), part), {}), part)
        elif name != "role" and value is not None:
            before = message.get(name)
            joined = isinstance(value, str | list) and isinstance(before, type(value))
            message[name] = before + value if joined else value


def _place(calls: dict[str, Object], index: str, part: Object) -> str:
    """Under which of the calls a part belongs: that of its index, or a new one where another call has that (Gemini)."""
    identity = part.get("id")
    if identity and calls.get(index, {}).get("id", identity) != identity:
        return next((name for name, call in calls.items() if call.get("id") == identity), f"{index} {identity}")
    later = [name for name in calls if name.startswith(f"{index} ")]
    return later[-1] if later and not identity else index


def _add_call(call: Object, part: Object) -> None:
    call.update({name: part[name] for name in _OF_CALL if part.get(name) is not None})
    function = call.setdefault("function", {})
    given = part.get("function") or {}
    if given.get("name"):
        function["name"] = given["name"]
    arguments = given.get("arguments")
    if isinstance(arguments, str):
        function["arguments"] = str(function.get("arguments") or "") + arguments
    elif arguments is not None:
        function["arguments"] = arguments
