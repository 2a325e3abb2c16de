"""Rows of every input format, read into one shape: one reader a format, and the register of them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NotRequired, TypedDict, cast

from fledgling.artefacts import Json, JsonObject
from fledgling.data import calls, definitions, turns
from fledgling.data.invalid import Unusable
from fledgling.data.traces import logs
from fledgling.data.traces.chat import require_success
from fledgling.data.traces.record import Record
from fledgling.data.values import as_list, as_object, as_text, decoded, need, parsed


@dataclass(frozen=True, slots=True)
class Parsed:
    """A row in Fledgling's terms, before it has a group and a split.

    `id` and `record` (the source record, from the row's own `group`) are None where the row does not say. `weight` is
    how many requests the row stands for. `ignored` lists keys of the row that nothing reads.
    """

    format: str
    messages: list[JsonObject]
    answer: Json
    id: str | int | None = None
    record: str | None = None
    tools: list[JsonObject] | None = None
    schema: Json = None
    allowed: list[JsonObject] | None = None
    category: str | None = None
    source: str | None = None
    weight: float = 1
    ignored: tuple[str, ...] = ()


class Fields(TypedDict):
    """What the reader of a format gives."""

    messages: list[JsonObject]
    answer: Json
    tools: NotRequired[list[JsonObject] | None]
    schema: NotRequired[Json]
    allowed: NotRequired[list[JsonObject] | None]


@dataclass(frozen=True, slots=True)
class Format:
    """One format: how it is read, the keys that its reader uses, and those that tell it from the others."""

    read: Callable[[JsonObject, str], Fields]
    keys: frozenset[str]
    told_by: tuple[frozenset[str], ...]


def parse(row: object, kind: str, format: str = "auto") -> Parsed:
    """Read one row of a track of `kind` (toolcall or structured).

    Raises:
        Unusable: the row is of no known format, or breaks the rules of its own.
    """
    if isinstance(row, logs.NoCall):
        raise Unusable("no_call_of_a_model", "the row is no call of a model")
    if isinstance(row, Record):
        return _logged(row, kind)
    if not isinstance(row, dict):
        raise Unusable("not_an_object", f"expected a JSON object, found {type(row).__name__}")
    refuse_half_characters(row)
    name = detect(row) if format == "auto" else format
    if name == TRACES:
        return parse(_only_call(row), kind)
    chosen = FORMATS[name]
    fields = chosen.read(row, kind)
    refuse_half_characters(fields["answer"], "the answer")
    read = chosen.keys if kind == "structured" else chosen.keys - _OF_RECORDS
    if kind == "toolcall":
        fields["schema"] = None  # a schema of what is said where no tool is called; calls have those of their tools
    category, source = row.get("category"), row.get("source")
    return Parsed(
        format=name,
        id=_identity(row),
        record=_record(row),
        category=category if isinstance(category, str) else None,
        source=source if isinstance(source, str) else None,
        weight=_weight(row),
        ignored=tuple(key for key in row if key not in read and key not in _COMMON),
        **fields,
    )


def detect(row: Mapping[str, object]) -> str:
    """The format of a row, from its keys.

    Raises:
        Unusable: no format has these keys.
    """
    if logs.is_logged(dict(row)):  # type: ignore[arg-type]  # only looks at keys
        return TRACES
    given = {key for key, value in row.items() if value is not None or key in ("answer", "answers")}
    if row.get("answer", row.get("answers")) is None and _ends_in_answer(row.get("messages")):
        given -= {"answer", "answers"}  # a table gave the row the keys of others
    for name, known in FORMATS.items():
        if any(keys <= given for keys in known.told_by):
            return name
    keys = ", ".join(sorted(map(str, row)))
    raise Unusable(
        "unknown_format",
        f"the keys ({keys}) belong to no format that is read: messages + answer, messages + tools (OpenAI),"
        " messages + answers (BFCL), question + function (BFCL as published), prompt + completion,"
        f" query + tools + answers (xLAM), conversations (ShareGPT), or logs ({', '.join(logs.LOGS)})",
    )


def _ends_in_answer(messages: object) -> bool:
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and last.get("role") == "assistant"


def refuse_half_characters(value: object, key: str = "") -> None:
    """Refuse a text with half a character (a lone surrogate), which no tokenizer takes and no file can hold.

    Raises:
        Unusable: names the key.
    """
    stack = [(value, key)]
    while stack:
        node, place = stack.pop()
        if isinstance(node, dict):
            for name, item in node.items():
                stack.append((name, f"a name in {place or 'the row'}"))
                stack.append((item, f"{place}.{name}" if place else str(name)))
        elif isinstance(node, list):
            stack.extend((item, f"{place}[{index}]") for index, item in enumerate(node))
        elif isinstance(node, str) and not node.isascii():
            try:
                node.encode("utf-8")
            except UnicodeEncodeError as error:
                raise Unusable(
                    "half_character",
                    f"{place}: half a character at position {error.start} (U+{ord(node[error.start]):04X}, as of an"
                    " emoji that was cut); remove it",
                ) from None


def _identity(row: JsonObject) -> str | int | None:
    identity = row.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int | None):
        raise Unusable("id", f"key 'id': expected text or an integer, found {type(identity).__name__}")
    if identity == "":
        raise Unusable("id", "key 'id' is empty; leave it out, and the row is named by its content")
    if isinstance(identity, int) and abs(identity) >= 10**18:
        raise Unusable("id", "key 'id': an integer of over 18 digits; write it as text")
    return identity


def _record(row: JsonObject) -> str | None:
    record = row.get("group")
    if not isinstance(record, str | int | None) or isinstance(record, bool):
        raise Unusable("group", f"key 'group': expected text, found {type(record).__name__}")
    if isinstance(record, int) and abs(record) >= 10**18:
        raise Unusable("group", "key 'group': an integer of over 18 digits; write it as text")
    return None if record is None else str(record)


def _weight(row: JsonObject) -> float:
    weight = row.get("weight", 1)
    if weight is None:
        return 1
    if isinstance(weight, str):  # a cell of a CSV file
        try:
            weight = float(weight)
        except ValueError:
            weight = None
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e12:
        raise Unusable("weight", "key 'weight': expected how many requests the row stands for, a number above 0")
    return weight if math.isfinite(weight) else 1


def _only_call(row: JsonObject) -> object:
    """The one call that a row of a log holds."""
    found = [call for _, call in logs.calls(iter([(1, row)]), named=True, turns="reply")]
    if len(found) != 1:
        raise Unusable("several_calls", f"the row holds {len(found)} calls of a log; rows of one call are read here")
    if isinstance(found[0], Unusable):
        raise found[0]
    return found[0]


def _logged(record: Record, kind: str) -> Parsed:
    """A logged call whose reply is the answer; it is known by its content, so that every log gives the same row.

    Raises:
        Unusable: the call failed, or what was logged is no row.
    """
    reply = require_success(record)
    asked: JsonObject = {"messages": record.messages, "tools": record.tools, "schema": record.schema}
    refuse_half_characters({**asked, "reply": reply})
    tools = definitions.tools(record.tools)
    schema = decoded(record.schema, "schema")
    wrapped = isinstance(schema, dict) and ("json_schema" in schema or schema.get("type") in _RESPONSE_FORMATS)
    answer = _answer_of(reply, kind, "reply", tools)
    refuse_half_characters(answer, "the answer")
    return Parsed(
        format=f"{TRACES}/{record.log}",
        messages=turns.messages(record.messages),
        answer=answer,
        tools=tools,
        schema=_schema_of({"response_format" if wrapped else "schema": schema}),
    )


def _example(row: JsonObject, kind: str) -> Fields:
    answer = need(row, "answer")
    return {
        "messages": turns.messages(need(row, "messages")),
        "tools": _tools_of(row),
        "schema": _schema_of(row),
        "answer": _gold(answer, "answer") if kind == "toolcall" else decoded(answer, "answer"),
        "allowed": calls.allowed(row.get("allowed"), "allowed"),
    }


def _bfcl(row: JsonObject, kind: str) -> Fields:
    """Rows with allowed values per argument: `answers` as in shared/data, or BFCL's own files."""
    if "question" in row and "messages" not in row:
        return _bfcl_published(row, kind)
    _only_calls(kind, "answers")
    allowed = calls.allowed(need(row, "answers"), "answers")
    gold = _gold(row.get("gold"), "gold")
    answer = cast(Json, calls.first_allowed(allowed)) if gold is None and allowed is not None else gold
    return {
        "messages": turns.messages(need(row, "messages")),
        "tools": _tools_of(row),
        "answer": answer,
        "allowed": allowed or None,
    }


def _bfcl_published(row: JsonObject, kind: str) -> Fields:
    """BFCL as its repository has it: turns of messages, Python's types, `ground_truth` from possible_answer/."""
    _only_calls(kind, "question")
    asked = as_list(row["question"], "question")
    if asked and isinstance(asked[0], list):
        if len(asked) != 1:
            raise Unusable("several_turns", f"key 'question': {len(asked)} turns; rows of one turn are read")
        asked = asked[0]
    if "ground_truth" not in row:
        raise Unusable(
            "no_answer",
            "key 'ground_truth' is missing: put BFCL's folder possible_answer beside the file, with its file",
        )
    tools = [_plain_name(tool) for tool in definitions.tools(row["function"], "function") or []]
    allowed = _ground_truth(row["ground_truth"])
    return {
        "messages": turns.messages(asked, "question"),
        "tools": tools,
        "answer": None if allowed is None else cast(Json, calls.first_allowed(allowed)),
        "allowed": allowed or None,
    }


def _ground_truth(value: Json) -> list[JsonObject] | None:
    if value is None:
        return None
    listed: list[Json] = []
    for index, item in enumerate(as_list(value, "ground_truth")):
        for name, arguments in as_object(item, f"ground_truth[{index}]").items():
            listed.append({"name": name.replace(".", "_"), "arguments": arguments})
    return calls.allowed(listed, "ground_truth")


def _plain_name(tool: JsonObject) -> JsonObject:
    """A tool whose name providers take: dots become underscores, as BFCL itself writes them for OpenAI."""
    function = as_object(tool["function"], "function")
    return {**tool, "function": {**function, "name": str(function["name"]).replace(".", "_")}}


def _prompt_completion(row: JsonObject, kind: str) -> Fields:
    prompt, completion = row["prompt"], row["completion"]
    tools = _tools_of(row)
    answer: Json
    if isinstance(completion, list):
        if len(completion) != 1 or not isinstance(completion[0], dict):
            raise Unusable("completion", "key 'completion': expected text or a list with one assistant message")
        answer = _answer_of(completion[0], kind, "completion[0]", tools)
    elif kind == "structured":
        answer = parsed(as_text(completion, "completion"), "completion")
    else:
        answer = _written(as_text(completion, "completion"), "completion", tools)
    return {
        "messages": turns.messages(
            [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt, "prompt"
        ),
        "tools": tools,
        "schema": _schema_of(row),
        "answer": answer,
    }


def _openai(row: JsonObject, kind: str) -> Fields:
    before, last, key = turns.split_answer(need(row, "messages"))
    tools = _tools_of(row)
    return {
        "messages": turns.messages(before),
        "tools": tools,
        "schema": _schema_of(row),
        "answer": _answer_of(last, kind, key, tools),
    }


def _sharegpt(row: JsonObject, kind: str) -> Fields:
    """Turns with `from` and `value` (ShareGPT, Hermes, APIGen); the system message may stand beside them."""
    before, last, key = turns.split_answer(row["conversations"], "conversations")
    tools = _tools_of(row)
    made = turns.messages(before, "conversations")
    if row.get("system") and not any(turn["role"] == "system" for turn in made):
        made.insert(0, {"role": "system", "content": as_text(row["system"], "system")})
    return {
        "messages": made,
        "tools": tools,
        "schema": _schema_of(row),
        "answer": _answer_of(last, kind, key, tools),
    }


def _xlam(row: JsonObject, kind: str) -> Fields:
    _only_calls(kind, "query")
    if row["answers"] is None:
        raise Unusable("no_answer", "key 'answers' is null; write [] where no call is right")
    return {
        "messages": turns.messages([{"role": "user", "content": row["query"]}], "query"),
        "tools": _tools_of(row),
        "answer": _gold(row["answers"], "answers"),
    }


def _only_calls(kind: str, key: str) -> None:
    if kind != "toolcall":
        raise Unusable("kind", f"rows with '{key}' are tool calls; this track is structured")


def _gold(value: Json, key: str) -> Json:
    return None if value is None else cast(Json, calls.calls(value, key))


def _tools_of(row: JsonObject) -> list[JsonObject] | None:
    if row.get("tools") is None and row.get("functions") is not None:
        return definitions.tools(row["functions"], "functions")
    return definitions.tools(row.get("tools"))


def _schema_of(row: JsonObject) -> Json:
    """The JSON Schema of a row's answer, from `schema` or `response_format`, either of which may be JSON text."""
    schema = _unwrapped(decoded(row.get("schema"), "schema"), "schema")
    if schema is None:
        wanted = decoded(row.get("response_format"), "response_format")
        if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
            schema = _unwrapped(wanted, "response_format")
        elif wanted is not None and not isinstance(wanted, dict):
            raise Unusable("response_format", "key 'response_format': expected an object")
    return definitions.schema(schema) if isinstance(schema, dict) else schema


def _unwrapped(given: Json, key: str) -> Json:
    """A schema out of what requests put around it: `{"type": "json_schema", …}`, and `{"name", "schema", "strict"?}`."""
    if isinstance(given, dict) and given.get("type") == "json_schema":
        if given.get("json_schema") is not None:
            key = f"{key}.json_schema"
            given = as_object(decoded(given["json_schema"], key), key)
        elif "schema" not in given:
            raise Unusable("response_format", f"{key}.json_schema is missing; the schema stands in it")
    if isinstance(given, dict) and "schema" in given and given.keys() <= _AROUND_A_SCHEMA:
        return decoded(given["schema"], f"{key}.schema")
    return given


def _answer_of(turn: JsonObject, kind: str, key: str, tools: list[JsonObject] | None) -> Json:
    """The answer in an assistant's turn: its calls, or what its text says."""
    content = turn.get("content")
    if isinstance(content, list):
        content = turns.text(content, key)
    if kind == "structured":
        if not content and (turn.get("tool_calls") or turn.get("function_call")):
            raise Unusable(
                "kind", f"{key}: the answer is a tool call, and this track is structured; set kind: toolcall"
            )
        return parsed(as_text(content, f"{key}.content"), f"{key}.content")
    if called := calls.of_turn(turn, key):
        return cast(Json, [call for call, _ in called])
    text = as_text("" if content is None else content, f"{key}.content").strip()
    if not text:
        raise Unusable("no_answer", f"{key}: neither content nor tool_calls; an abstention says something in content")
    return cast(Json, calls.in_text(text, f"{key}.content", tools) or [])


def _written(text: str, key: str, tools: list[JsonObject] | None) -> Json:
    """The calls of a completion, which holds them or [] and nothing else."""
    found = calls.in_text(text, key, tools)
    if found is None:
        raise Unusable("no_call", f"{key}: no call in a form that is read; write [] where no call is right")
    return cast(Json, found)


TRACES = "traces"
_AROUND_A_SCHEMA = frozenset({"type", "name", "description", "schema", "strict"})
_RESPONSE_FORMATS = ("json_schema", "json_object", "text")
_COMMON = frozenset({"id", "group", "category", "source", "weight"})
_OF_RECORDS = frozenset({"schema", "response_format"})
_REQUEST = frozenset({"tools", "functions", "schema", "response_format", "parallel_tool_calls"})
FORMATS: dict[str, Format] = {
    "bfcl": Format(
        _bfcl,
        frozenset({"messages", "tools", "answers", "gold", "question", "function", "ground_truth"}),
        (frozenset({"messages", "answers"}), frozenset({"question", "function"})),
    ),
    "example": Format(_example, _REQUEST | {"messages", "answer", "allowed"}, (frozenset({"messages", "answer"}),)),
    "openai": Format(_openai, _REQUEST | {"messages"}, (frozenset({"messages"}),)),
    "prompt_completion": Format(
        _prompt_completion, _REQUEST | {"prompt", "completion"}, (frozenset({"prompt", "completion"}),)
    ),
    "sharegpt": Format(_sharegpt, _REQUEST | {"conversations", "system"}, (frozenset({"conversations"}),)),
    "xlam": Format(_xlam, frozenset({"query", "tools", "answers"}), (frozenset({"query", "answers"}),)),
}
