"""Gold calls: in the forms that data sets give them, and as text in the dialects that the scorer reads."""

import re
from collections.abc import Iterable, Sequence
from typing import TypedDict

from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject
from fledgling.data.invalid import Unusable
from fledgling.data.values import as_list, as_object, as_text, decoded, parsed
from fledgling.tracks.attempts import attempts_call
from fledgling.tracks.declared import offered
from fledgling.tracks.dialects import lenient_calls, parse_calls
from fledgling.tracks.spoken import spoken

_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "kwargs")
_BESIDE = frozenset(("name", "tool_name", "id", "type", "index", "function"))
_FENCE = re.compile(r"\s*```[\w-]*[ \t]*\n(.*)\n[ \t]*```\s*", re.DOTALL)


class Call(TypedDict):
    """One gold call."""

    name: str
    arguments: JsonObject


def call(value: Json, key: str) -> Call:
    """One call: a name and arguments (an object, or JSON text; blank ones are none), perhaps inside `function`.

    Raises:
        Unusable: no name, or arguments that are no object.
    """
    given = as_object(decoded(value, key) if isinstance(value, str) and value.lstrip()[:1] == "{" else value, key)
    if isinstance(given.get("function"), dict):
        given, key = as_object(given["function"], key), f"{key}.function"
    name = given.get("name", given.get("tool_name"))
    if not isinstance(name, str) or not name:
        raise Unusable("no_name", f"{key}.name: expected the name of a tool")
    parts = [part for part in _ARGUMENT_KEYS if part in given]
    at = next((part for part in parts if given[part] is not None), next(iter(parts), None))
    if at is None and given.keys() - _BESIDE:
        raise Unusable("arguments", f"{key}.arguments is missing; the arguments of a call stand under it")
    arguments = given[at] if at else None
    if isinstance(arguments, str):
        arguments = parsed(arguments, f"{key}.{at}") if arguments.strip() else None
    return {"name": name, "arguments": as_object({} if arguments is None else arguments, f"{key}.{at or 'arguments'}")}


def calls(value: Json, key: str) -> list[Call]:
    """A list of calls; one alone may stand for itself."""
    value = decoded(value, key)
    if isinstance(value, dict) and ("function" in value or any(part in value for part in _ARGUMENT_KEYS)):
        value = [value]
    return [call(item, f"{key}[{index}]") for index, item in enumerate(as_list(value, key))]


def of_turn(turn: JsonObject, key: str) -> list[tuple[Call, JsonObject]]:
    """The calls of an assistant's turn under `tool_calls` or the older `function_call`, each with what was given.

    Raises:
        Unusable: one of them is none.
    """
    given = decoded(turn.get("tool_calls"), f"{key}.tool_calls")
    if given is not None and given != []:
        items = [
            as_object(item, f"{key}.tool_calls[{i}]") for i, item in enumerate(as_list(given, f"{key}.tool_calls"))
        ]
        return [(_provided(item, f"{key}.tool_calls[{index}]"), item) for index, item in enumerate(items)]
    old = decoded(turn.get("function_call"), f"{key}.function_call")
    if old is None:
        return []
    whole: JsonObject = {"function": as_object(old, f"{key}.function_call")}
    return [(call(whole, f"{key}.function_call"), whole)]


def _provided(item: JsonObject, key: str) -> Call:
    if not isinstance(item.get("function"), dict) and "name" not in item:
        raise Unusable("no_name", f"{key}.function is missing: expected the name and the arguments of a call")
    return call(item, key)


def in_text(text: str, key: str, tools: Sequence[JsonObject] | None) -> list[Call] | None:
    """The calls that a text holds, by the scorer's strict reading, or as JSON alone in it; None where it only speaks.

    Raises:
        Unusable: it tries to call a tool in a way that is not read for certain.
    """
    try:
        strict_json.checked(text)
        read = parse_calls(text)
    except ValueError as error:
        raise Unusable("not_text", f"{key}: {error}") from None
    if read is not None:
        return [{"name": found.name, "arguments": found.arguments} for found in read]
    try:
        said = spoken(text)
    except ValueError as error:
        raise Unusable("call_in_text", f"{key}: {error}") from None
    fenced = _FENCE.fullmatch(said)
    alone = fenced[1] if fenced else said
    if fenced and (read := parse_calls(alone)) is not None:
        return [{"name": found.name, "arguments": found.arguments} for found in read]
    if lenient_calls(said) or attempts_call(said, *offered(tools)):
        if (listed := _as_json(alone, key)) is not None:
            return listed
        raise Unusable(
            "call_in_text",
            f"{key}: a tool call stands in the text in a form that is not read for certain{_trouble(alone)}; write it"
            " under tool_calls, or as <tool_call>{…}</tool_call>",
        )
    return None


def _trouble(text: str) -> str:
    """What is wrong with a text that begins as JSON does."""
    try:
        if text.lstrip()[:1] in ("{", "["):
            strict_json.loads(text)
    except ValueError as error:
        return f" (not JSON: {error})"
    return ""


def _as_json(text: str, key: str) -> list[Call] | None:
    """The calls of a text that is nothing but JSON, arguments as text or under other keys among them."""
    try:
        value: Json = strict_json.loads(text)
        items = value if isinstance(value, list) else [value]
        return [call(item, key) for item in items] if all(isinstance(item, dict) for item in items) else None
    except (Unusable, ValueError):
        return None


def allowed(value: Json, key: str) -> list[JsonObject] | None:
    """Lists of allowed values per argument and call; a list that is empty leaves its argument out."""
    value = decoded(value, key)
    if value is None:
        return None
    made: list[JsonObject] = []
    for index, found in enumerate(calls(value, key)):
        options: JsonObject = {}
        for name, values in found["arguments"].items():
            if not isinstance(values, list):
                raise Unusable("allowed", f"{key}[{index}].arguments.{name}: expected a list of allowed values")
            options[name] = values or [""]
        made.append({"name": found["name"], "arguments": options})
    return made


def first_allowed(options: Iterable[JsonObject]) -> list[Call]:
    """The calls that have the first allowed value of every argument, those left out that may be."""
    return [
        {
            "name": as_text(expected["name"], "name"),
            "arguments": {
                name: _first(values[0])
                for name, values in as_object(expected["arguments"], "arguments").items()
                if isinstance(values, list) and "" not in values
            },
        }
        for expected in options
    ]


def _first(option: Json) -> Json:
    """An allowed value as a call has it: inside an object every key holds a list of values."""
    if isinstance(option, dict):
        return {
            key: _first(values[0]) if isinstance(values, list) and values else values
            for key, values in option.items()
            if not (isinstance(values, list) and "" in values)
        }
    return [_first(item) for item in option] if isinstance(option, list) else option
