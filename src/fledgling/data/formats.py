"""Rows of every input format, read into one shape."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fledgling import strict_json
from fledgling.data.invalid import Unusable

Row = dict[str, Any]
Call = dict[str, Any]
_ROLES = ("system", "user", "assistant", "tool")
_MESSAGE_KEYS = ("role", "content", "tool_calls", "tool_call_id", "name")
_WRAPPER = re.compile(r'\s*<tool_call name="([^"]*)">')
_WRAPPER_END = "</tool_call>"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A row in Fledgling's terms, before it has a group and a split.

    `id` and `record` (the source record, from the row's own `group` or `source`) are None where the
    row does not say. `ignored` lists keys of the row that nothing reads.
    """

    format: str
    messages: list[dict[str, Any]]
    answer: Any
    id: str | int | None = None
    record: str | None = None
    tools: list[dict[str, Any]] | None = None
    schema: Any = None
    allowed: list[dict[str, Any]] | None = None
    category: str | None = None
    source: str | None = None
    ignored: tuple[str, ...] = ()


def parse(row: Any, kind: str, format: str = "auto") -> Parsed:
    """Read one row of a track of `kind` (toolcall or structured).

    Raises:
        Unusable: the row is of no known format, or breaks the rules of its own.
    """
    if not isinstance(row, dict):
        raise Unusable("not_an_object", f"expected a JSON object, found {type(row).__name__}")
    name = detect(row) if format == "auto" else format
    reader, used = _READERS[name]
    fields = reader(row, kind)
    identity = row.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int | None):
        raise Unusable("id", f"key 'id': expected text or an integer, found {type(identity).__name__}")
    if identity == "":
        raise Unusable("id", "key 'id' is empty; leave it out, and the row is named by its content")
    record = row.get("group")
    if not isinstance(record, str | int | None) or isinstance(record, bool):
        raise Unusable("group", f"key 'group': expected text, found {type(record).__name__}")
    category = row.get("category")
    return Parsed(
        format=name,
        id=identity,
        record=None if record is None else str(record),
        category=category if isinstance(category, str) else None,
        source=row["source"] if isinstance(row.get("source"), str) else None,
        ignored=tuple(key for key in row if key not in used and key not in _COMMON),
        **fields,
    )


def detect(row: Row) -> str:
    """The format of a row, from its keys.

    Raises:
        Unusable: no format has these keys.
    """
    if "messages" in row:
        if "answers" in row:
            return "bfcl"
        return "example" if "answer" in row else "openai"
    if "prompt" in row and "completion" in row:
        return "prompt_completion"
    if "query" in row and "answers" in row:
        return "xlam"
    keys = ", ".join(sorted(map(str, row)))
    raise Unusable(
        "unknown_format",
        f"the keys ({keys}) belong to no format that is read: messages + answer, messages + tools (OpenAI),"
        " messages + answers + gold (BFCL), prompt + completion, query + tools + answers (xLAM)",
    )


def _example(row: Row, kind: str) -> Row:
    answer = _need(row, "answer")
    if kind == "toolcall" and answer is not None:
        answer = [_call(call, f"answer[{index}]") for index, call in enumerate(_list(answer, "answer"))]
    return {
        "messages": _messages(_need(row, "messages")),
        "tools": _tools(row.get("tools")),
        "schema": row.get("schema"),
        "answer": answer,
        "allowed": _allowed(row.get("allowed"), "allowed"),
    }


def _bfcl(row: Row, kind: str) -> Row:
    if kind != "toolcall":
        raise Unusable("kind", "rows with 'answers' are tool calls; this track is structured")
    gold, answers = _need(row, "gold"), _need(row, "answers")
    if gold is None and answers is not None:
        raise Unusable("gold", "key 'gold' is null although 'answers' is not")
    return {
        "messages": _messages(_need(row, "messages")),
        "tools": _tools(row.get("tools")),
        "answer": None if gold is None else [_call(call, f"gold[{i}]") for i, call in enumerate(_list(gold, "gold"))],
        "allowed": _allowed(answers, "answers") or None,
    }


def _prompt_completion(row: Row, kind: str) -> Row:
    prompt, completion = row["prompt"], row["completion"]
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if isinstance(completion, list):
        if len(completion) != 1 or not isinstance(completion[0], dict):
            raise Unusable("completion", "key 'completion': expected text or a list with one assistant message")
        answer = _final_turn(completion[0], kind, "completion[0]")
    else:
        text = _text(completion, "completion")
        answer = _calls(text, "completion") if kind == "toolcall" else _json(text, "completion")
    return {
        "messages": _messages(messages, "prompt"),
        "tools": _tools(row.get("tools")),
        "schema": row.get("schema"),
        "answer": answer,
    }


def _openai(row: Row, kind: str) -> Row:
    messages = _list(_need(row, "messages"), "messages")
    last = messages[-1] if messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        raise Unusable("no_answer", "key 'messages': the last message must be the assistant's, it is the answer")
    response_format = row.get("response_format")
    schema = row.get("schema")
    if schema is None and isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        schema = _object(response_format.get("json_schema"), "response_format.json_schema").get("schema")
    return {
        "messages": _messages(messages[:-1]),
        "tools": _tools(row.get("tools")),
        "schema": schema,
        "answer": _final_turn(last, kind, f"messages[{len(messages) - 1}]"),
    }


def _xlam(row: Row, kind: str) -> Row:
    if kind != "toolcall":
        raise Unusable("kind", "rows with 'query' and 'answers' are tool calls; this track is structured")
    tools, answers = _decoded(row.get("tools"), "tools"), _decoded(row["answers"], "answers")
    return {
        "messages": _messages([{"role": "user", "content": row["query"]}], "query"),
        "tools": None if tools is None else _tools([_xlam_tool(tool) for tool in _list(tools, "tools")]),
        "answer": [_call(call, f"answers[{index}]") for index, call in enumerate(_list(answers, "answers"))],
    }


_COMMON = frozenset({"id", "group", "category", "source"})
_READERS: dict[str, tuple[Callable[[Row, str], Row], frozenset[str]]] = {
    "example": (_example, frozenset({"messages", "tools", "schema", "answer", "allowed"})),
    "bfcl": (_bfcl, frozenset({"messages", "tools", "answers", "gold"})),
    "prompt_completion": (_prompt_completion, frozenset({"prompt", "completion", "tools", "schema"})),
    "openai": (_openai, frozenset({"messages", "tools", "schema", "response_format", "parallel_tool_calls"})),
    "xlam": (_xlam, frozenset({"query", "tools", "answers"})),
}


def _final_turn(message: Row, kind: str, key: str) -> Any:
    """The answer in an assistant's message: its tool calls, or what its text says."""
    content = message.get("content")
    if kind == "structured":
        return _json(_text(content, f"{key}.content"), f"{key}.content")
    if calls := message.get("tool_calls"):
        return [_openai_call(call, f"{key}.tool_calls[{i}]") for i, call in enumerate(_list(calls, "tool_calls"))]
    text = _text(content, f"{key}.content").strip()
    if not text:
        raise Unusable("no_answer", f"{key}: neither content nor tool_calls; an abstention says something in content")
    if text.startswith(("{", "[")) or "<tool_call" in text:
        return _calls(text, f"{key}.content")
    return []


def _calls(text: str, key: str) -> list[Call]:
    """Every call of a completion: wrapped ones, or one bare JSON object or list."""
    if not text.lstrip().startswith("<tool_call"):
        if not text.lstrip().startswith(("{", "[")):
            raise Unusable(
                "no_call",
                f'{key}: neither <tool_call name="…">{{…}}</tool_call> nor JSON; write [] where no call is right',
            )
        value = _json(text, key)
        return [_call(call, f"{key}[{i}]") for i, call in enumerate(value if isinstance(value, list) else [value])]
    calls: list[Call] = []
    at = 0
    while text[at:].strip():
        match = _WRAPPER.match(text, at)
        if not match:
            raise Unusable("not_json", f'{key}: expected <tool_call name="…"> at character {at + 1}')
        arguments, at = _wrapped(text, match.end(), key)
        calls.append(_call({"name": match[1], "arguments": arguments}, f"{key}[{len(calls)}]"))
    return calls


def _wrapped(text: str, start: int, key: str) -> tuple[Any, int]:
    """The JSON between `start` and its closing tag (a string in it may hold the tag's text), and the place after."""
    end, reason = text.find(_WRAPPER_END, start), "not closed"
    while end >= 0:
        try:
            return strict_json.loads(text[start:end].strip()), end + len(_WRAPPER_END)
        except ValueError as error:
            reason = str(error)
        end = text.find(_WRAPPER_END, end + 1)
    raise Unusable("not_json", f"{key}: the call at character {start + 1} holds no JSON ({reason})")


def _openai_call(call: Any, key: str) -> Call:
    function = _object(_object(call, key).get("function"), f"{key}.function")
    if not isinstance(function.get("arguments"), str):
        raise Unusable("arguments", f"{key}.function.arguments: expected JSON text")
    return _call(function, f"{key}.function")


def _call(call: Any, key: str) -> Call:
    call = _object(call, key)
    name = call.get("name")
    if not isinstance(name, str) or not name:
        raise Unusable("no_name", f"{key}.name: expected the name of a tool")
    arguments = _decoded(call.get("arguments"), f"{key}.arguments")
    return {"name": name, "arguments": _object(arguments, f"{key}.arguments")}


def _allowed(value: Any, key: str) -> list[Row] | None:
    if value is None:
        return None
    calls = [_call(call, f"{key}[{index}]") for index, call in enumerate(_list(value, key))]
    for index, call in enumerate(calls):
        for name, values in call["arguments"].items():
            if not isinstance(values, list) or not values:
                raise Unusable("allowed", f"{key}[{index}].arguments.{name}: expected a list of allowed values")
    return calls


def _messages(value: Any, key: str = "messages") -> list[Row]:
    messages = [_message(message, f"{key}[{index}]") for index, message in enumerate(_list(value, key))]
    if not any(message["role"] == "user" for message in messages):
        raise Unusable("no_request", f"key '{key}': there is no user message")
    if messages[-1]["role"] == "assistant":
        raise Unusable("no_request", f"key '{key}': the last message is the assistant's; what it says is the answer")
    return messages


def _message(message: Any, key: str) -> Row:
    message = _object(message, key)
    role = "system" if message.get("role") == "developer" else message.get("role")
    if role not in _ROLES:
        raise Unusable("role", f"{key}.role: {role!r} is none of {', '.join(_ROLES)}")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_part(part, f"{key}.content[{index}]") for index, part in enumerate(content))
    if not isinstance(content, str) and not (content is None and role == "assistant"):
        raise Unusable("content", f"{key}.content: expected text, found {type(content).__name__}")
    kept = {name: message[name] for name in _MESSAGE_KEYS if message.get(name) is not None}
    return {**kept, "role": role, "content": content}


def _part(part: Any, key: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise Unusable("content", f"{key}: only parts of type text are read")
    return part["text"]


def _tools(value: Any) -> list[Row] | None:
    value = _decoded(value, "tools")
    if value is None:
        return None
    tools = []
    for index, tool in enumerate(_list(value, "tools")):
        tool = _object(tool, f"tools[{index}]")
        function = _object(tool.get("function", tool), f"tools[{index}].function")
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise Unusable("tools", f"tools[{index}].function.name: expected text")
        tools.append({"type": "function", "function": function})
    return tools


def _xlam_tool(tool: Any) -> Any:
    """A tool in OpenAI's form; parameters written flat become JSON Schema."""
    if not isinstance(tool, dict) or "function" in tool:
        return tool
    parameters = tool.get("parameters")
    if not isinstance(parameters, dict) or isinstance(parameters.get("type"), str) or "properties" in parameters:
        return tool
    properties: dict[str, Row] = {}
    required: list[str] = []
    for name, given in parameters.items():
        given = _object(given, f"tools: parameter {name!r}")
        type_name = str(given.get("type", "Any"))
        kind = re.sub(r"\s*[,(]?\s*optional\s*\)?\s*$", "", type_name, flags=re.IGNORECASE)
        extra: Row = {key: given[key] for key in ("description", "default", "enum") if key in given}
        properties[name] = {**_python_type(kind), **extra}
        if kind == type_name and not type_name.startswith("Optional[") and "default" not in given:
            required.append(name)
    return {**tool, "parameters": {"type": "object", "properties": properties, "required": required}}


_TYPES: dict[str, str] = {
    "str": "string",
    "string": "string",
    "int": "integer",
    "integer": "integer",
    "float": "number",
    "number": "number",
    "bool": "boolean",
    "boolean": "boolean",
    "dict": "object",
    "object": "object",
    "list": "array",
    "array": "array",
    "tuple": "array",
    "set": "array",
    "sequence": "array",
    "none": "null",
}


def _python_type(text: str) -> Row:
    """JSON Schema of a Python type as xLAM writes it; an unknown type allows anything."""
    name, _, inside = text.strip().partition("[")
    name, inner = name.strip().lower(), _split(inside.removesuffix("]")) if inside.endswith("]") else []
    if name == "optional" and inner:
        return {"anyOf": [_python_type(inner[0]), {"type": "null"}]}
    if name == "union" and inner:
        return {"anyOf": [_python_type(item) for item in inner]}
    kind = _TYPES.get(name)
    if kind == "array" and inner:
        options = [_python_type(item) for item in inner if item != "..."]
        same = all(option == options[0] for option in options)
        return {"type": "array", "items": options[0] if same else {"anyOf": options}}
    if kind == "object" and len(inner) == 2 and (values := _python_type(inner[1])):
        return {"type": "object", "additionalProperties": values}
    return {"type": kind} if kind else {}


def _split(text: str) -> list[str]:
    """Split at the commas outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _need(row: Row, key: str) -> Any:
    if key not in row:
        raise Unusable("missing_key", f"key '{key}' is missing")
    return row[key]


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise Unusable("not_a_list", f"key '{key}': expected a list, found {type(value).__name__}")
    return value


def _object(value: Any, key: str) -> Row:
    if not isinstance(value, dict):
        raise Unusable("not_an_object", f"{key}: expected a JSON object, found {type(value).__name__}")
    return value


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise Unusable("not_text", f"{key}: expected text, found {type(value).__name__}")
    return value


def _json(text: str, key: str) -> Any:
    try:
        return strict_json.loads(text)
    except ValueError as error:
        raise Unusable("not_json", f"{key}: not JSON ({error})") from None


def _decoded(value: Any, key: str) -> Any:
    return _json(value, key) if isinstance(value, str) else value
