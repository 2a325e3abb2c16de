r"""Tool calls in the text of a model's reply, in the dialects that write arguments as JSON.

*Strict reading* (`parse_calls`). A call is a JSON object with a string `name` and an object under `arguments` or
`parameters` (one of the two). It may have other keys, but an echoed tool definition is no call. Calls stand

* after a marker: Phi-4-mini's `<|tool_call|>…<|/tool_call|>`, Hermes' and Qwen's `<tool_call>…</tool_call>`,
  Llama-3's `<|python_tag|>`, Mistral's `[TOOL_CALLS]` (a list, or `name{arguments}`), `functools[…]`, Glaive's
  `<functioncall>`; or with the name in the marker and the arguments behind it: `<function=name>{…}</function>` (Llama
  3.1), DeepSeek's `<｜tool▁call▁begin｜>`, harmony's `to=functions.name … <|message|>{…}`, and the historical
  `<tool_call name="X">{…}</tool_call>`; or
* without one (Llama-3's JSON), where they are the whole reply.

Behind a marker stands one call, a list of calls, or several of them separated by commas (by semicolons too in
Llama-3's form), and nothing else: up to the closing marker, or where that is missing up to the next marker or the
end; what opens `functools` or `[TOOL_CALLS]` also closes it. Outside of marked calls there may be text. Thoughts and
tokens that end the turn are not looked at (`spoken`). One broken call makes the whole reply unreadable. An empty list
reads as no calls.

*Lenient reading* (`lenient_calls`), for diagnosis: also calls in code fences or inside prose, other key names,
arguments given as JSON text, OpenAI's `{"function": {…}}` wrapper. The JSON itself stays strict in both readings;
Python literals are never evaluated. What neither reads may still be an attempt (`attempts`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fledgling import strict_json
from fledgling.files import Object
from fledgling.tracks.spoken import spoken

LENIENT_SIZE = 1 << 16  # characters that the lenient reading looks at, in
LENIENT_TRIES = 64  # places: together they bound its time

_NAME = r"[^<>｜|\s\"'={}]{1,256}"
_MARKER = re.compile(
    r'<\|tool_calls?\|>|<tool_calls?(?:\s{1,8}name="(?P<tag>[^"<>]{1,256})")?\s{0,8}>'
    r"|<\|python_tag\|>|\[TOOL_CALLS\]|functools(?=\[)|<functioncall>"
    rf"|<function=(?P<function>{_NAME})>"
    rf"|<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>(?P<v3>{_NAME})\s{{0,8}}```json\s|(?P<v31>{_NAME})<｜tool▁sep｜>)"
    rf"|to=functions\.(?P<harmony>{_NAME})[^{{}}\[]{{0,128}}?<\|message\|>"
)
_NAMED = ("tag", "function", "v3", "v31", "harmony")  # groups of the marker that hold the name of the tool
_CLOSING = {
    "<|tool_calls|>": "<|/tool_calls|>",
    "<|tool_call|>": "<|/tool_call|>",
    "<tool_calls": "</tool_calls>",
    "<tool_call": "</tool_call>",
    "<functioncall>": "</functioncall>",
    "<function=": "</function>",
    "<｜tool▁call▁begin｜>": "<｜tool▁call▁end｜>",
    "to=": "<|call|>",
}
_SELF_CLOSING = ("functools", "[TOOL_CALLS]")
_GLAIVE = re.compile(r"""\{\s{0,8}"name"\s{0,8}:\s{0,8}"([^"\\]{1,256})"\s{0,8},\s{0,8}"arguments"\s{0,8}:\s{0,8}'""")
_GLAIVE_END = re.compile(r"\s{0,8}'\s{0,8}\}")
_BARE = re.compile(r"\s*(?:\{|\[\s*[\[{\"\]])")
_MISTRAL_NAME = re.compile(r"([\w.\-]{1,256})\s{0,8}(?:\[CALL_ID\]\s{0,8}\w{1,64}\s{0,8})?(?:\[ARGS\])?\s{0,8}(?=\{)")
_SCHEMA_KEYS = frozenset(
    (
        "type",
        "description",
        "title",
        "default",
        "examples",
        "enum",
        "const",
        "format",
        "pattern",
        "properties",
        "required",
        "optional",
        "nullable",
        "items",
        "additionalProperties",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "uniqueItems",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "$schema",
        "$defs",
    )
)
_SCHEMA_TYPE = re.compile(
    r"(?:str(?:ing)?|int(?:eger)?|num(?:ber)?|float|double|bool(?:ean)?|array|list|tuple|set|dict(?:ionary)?|object"
    r"|null|none|any|optional|union)\b",
    re.IGNORECASE,
)
_NAME_KEYS = ("name", "function", "tool", "tool_name", "function_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "params", "kwargs")


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call: the tool's name and its arguments as parsed JSON."""

    name: str
    arguments: Object


def parse_calls(text: str) -> list[Call] | None:
    """The calls of a reply by the strict reading, in order; [] for an empty list, None where there is no valid call."""
    try:
        return _read(spoken(strict_json.checked(text)))
    except ValueError:
        return None


def split_calls(text: str) -> tuple[str, list[Call]] | None:
    """The words before the calls of a reply, and the calls by the strict reading; None where there is no valid call."""
    calls = parse_calls(text)
    if calls is None:
        return None
    said = spoken(text)
    marker = None if _BARE.match(said) else _MARKER.search(said)
    return (said[: marker.start()].strip() if marker else ""), calls


def native_calls(tool_calls: Sequence[object]) -> list[Call] | None:
    """The calls of a provider's `tool_calls` (OpenAI's form, arguments as strict JSON text); None if one is broken.

    Arguments that are blank, null or absent are none: endpoints write so for tools without parameters.
    """
    try:
        return [_native(call) for call in tool_calls]
    except ValueError:
        return None


def lenient_calls(text: str) -> list[Call]:
    """The calls that the lenient reading finds in a reply that has none by the strict one."""
    if len(text) > LENIENT_SIZE:
        return []
    return [call for value in _values(text) for call in _loose(value)]


def _read(text: str) -> list[Call]:
    if _BARE.match(text):
        calls, end = _calls(text, strict_json.skip_space(text, 0), ",;")
        if end != len(text):
            raise ValueError("text after the calls")
        return calls
    calls = []
    marker = _MARKER.search(text)
    if marker is None:
        raise ValueError("no call")
    while marker is not None:
        found, end = _marked(text, marker)
        calls += found
        marker = _MARKER.search(text, end)
    return calls


def _marked(text: str, marker: re.Match[str]) -> tuple[list[Call], int]:
    start = strict_json.skip_space(text, marker.end())
    name = next((marker[group] for group in _NAMED if marker[group]), None)
    if name is None and marker[0] == "[TOOL_CALLS]" and (named := _MISTRAL_NAME.match(text, start)):
        name, start = named[1], named.end()
    self_closing = marker[0] in _SELF_CLOSING
    if name is not None:
        arguments, end = strict_json.scan(text, start)
        calls = [_call({"name": name, "arguments": arguments})]
        while self_closing and (named := _MISTRAL_NAME.match(text, end)):  # several behind one marker
            arguments, end = strict_json.scan(text, named.end())
            calls.append(_call({"name": named[1], "arguments": arguments}))
    elif marker[0] == "<functioncall>" and (quoted := _GLAIVE.match(text, start)):
        calls, end = _quoted(text, quoted)
    else:
        separators = ",;" if marker[0] == "<|python_tag|>" else ","
        calls, end = _calls(text, start, separators, text_may_follow=self_closing)
    end = strict_json.skip_space(text, end)
    if marker["v3"] and text.startswith("```", end):
        end = strict_json.skip_space(text, end + len("```"))
    closing = next((close for opening, close in _CLOSING.items() if marker[0].startswith(opening)), None)
    if closing and text.startswith(closing, end):
        return calls, end + len(closing)
    if end < len(text) and not self_closing and not _MARKER.match(text, end):
        raise ValueError("text after the calls")
    return calls, end


def _quoted(text: str, opening: re.Match[str]) -> tuple[list[Call], int]:
    """Glaive's call, whose arguments are JSON between single quotes."""
    arguments, end = strict_json.scan(text, strict_json.skip_space(text, opening.end()))
    closing = _GLAIVE_END.match(text, end)
    if closing is None:
        raise ValueError("not a call")
    return [_call({"name": opening[1], "arguments": arguments})], closing.end()


def _calls(text: str, start: int, separators: str, *, text_may_follow: bool = False) -> tuple[list[Call], int]:
    calls: list[Call] = []
    while True:
        value, end = strict_json.scan(text, start)
        calls += [_call(item) for item in value] if isinstance(value, list) else [_call(value)]
        after = strict_json.skip_space(text, end)
        if after == len(text) or text[after] not in separators:
            return calls, after
        start = strict_json.skip_space(text, after + 1)
        if text_may_follow and text[start : start + 1] not in ("{", "["):
            return calls, end


def _call(value: Any) -> Call:
    if not isinstance(value, dict) or ("arguments" in value) == ("parameters" in value):
        raise ValueError("not a call")
    name = value.get("name")
    arguments = value["arguments"] if "arguments" in value else value["parameters"]
    if not isinstance(name, str) or not name or not isinstance(arguments, dict) or _is_definition(value):
        raise ValueError("not a call")
    return Call(name, arguments)


def _is_definition(value: Object) -> bool:
    """Whether an object with `parameters` is a tool's definition: JSON Schema, or Phi's {parameter: {"type"…}}."""
    parameters = value.get("parameters")
    if not isinstance(parameters, dict):
        return False
    properties = parameters.get("properties")
    known = parameters.keys() <= _SCHEMA_KEYS
    if parameters.get("type") in ("object", "dict") and (known or isinstance(properties, dict)):
        return True
    if "description" in value and all(isinstance(item, dict) for item in parameters.values()):
        return True
    if known and properties and isinstance(properties, dict):
        parameters = properties
    return parameters != {} and all(map(_is_schema, parameters.values()))


def _is_schema(value: Any) -> bool:
    """Whether a value describes a parameter: it has a type that definitions use, and no key that they do not."""
    if not isinstance(value, dict) or not value.keys() <= _SCHEMA_KEYS:
        return False
    declared = value.get("type")
    names = declared if isinstance(declared, list) and declared else [declared]
    return all(isinstance(name, str) and _SCHEMA_TYPE.match(name) for name in names)


def _native(call: object) -> Call:
    function = call.get("function", call) if isinstance(call, dict) else None  # some write them unwrapped
    if not isinstance(function, dict):
        raise ValueError("not a call")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = strict_json.loads(arguments) if arguments.strip() else None
    else:
        strict_json.dumps(arguments)  # refuses what no JSON text could have said: NaN, depths
    return _call({"name": function.get("name"), "arguments": {} if arguments is None else arguments})


def _values(text: str) -> Iterator[Any]:
    position = 0
    for _ in range(LENIENT_TRIES):
        start = min((at for at in (text.find("{", position), text.find("[", position)) if at >= 0), default=None)
        if start is None:
            return
        try:
            value, position = strict_json.scan(text, start)
            yield value
        except ValueError:
            position = start + 1


def _loose(value: Any) -> Iterator[Call]:
    if isinstance(value, list):
        for item in value:
            yield from _loose(item)
    elif isinstance(value, dict) and not _is_definition(value):
        inner = value.get("function", value.get("tool_calls"))
        if isinstance(inner, (dict, list)):
            yield from _loose(inner)
            return
        name = next((value[key] for key in _NAME_KEYS if isinstance(value.get(key), str) and value[key]), None)
        arguments = next((value[key] for key in _ARGUMENT_KEYS if key in value), None)
        if isinstance(arguments, str):
            try:
                arguments = strict_json.loads(arguments)
            except ValueError:
                return
        if name is not None and isinstance(arguments, dict):
            yield Call(name, arguments)
