"""The same calls of a hosted model as every log format keeps them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

Row = dict[str, Any]
Turns = list[Row]


@dataclass
class Call:
    """One call: what was asked, the assistant's turn that came back, and what logs know beside it."""

    messages: Turns
    reply: Row
    tools: list[Row] | None = None
    schema: Row | None = None
    model: str = "gpt-4o-2024-08-06"
    time: float = 1_790_000_000.0
    session: str | None = None
    trace: str = "t"
    id: str = "c"
    name: str = "extract"
    tags: tuple[str, ...] = ("prod",)
    temperature: float = 0
    scores: dict[str, float] = field(default_factory=dict)
    finish: str | None = None

    @property
    def finish_reason(self) -> str:
        return self.finish or ("tool_calls" if self.reply.get("tool_calls") else "stop")

    @property
    def response_format(self) -> Row | None:
        if self.schema is None:
            return None
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": self.schema, "strict": False}}

    def request(self) -> Row:
        body: Row = {"model": "gpt-4o", "messages": self.messages, "temperature": self.temperature}
        if self.tools:
            body["tools"] = self.tools
        if self.response_format:
            body["response_format"] = self.response_format
        return body

    def completion(self) -> Row:
        message = {"refusal": None, "annotations": [], **self.reply}
        return {
            "id": f"chatcmpl-{self.id}",
            "object": "chat.completion",
            "created": int(self.time),
            "model": self.model,
            "choices": [{"index": 0, "finish_reason": self.finish_reason, "message": message, "logprobs": None}],
            "usage": {"prompt_tokens": 52, "completion_tokens": 17, "total_tokens": 69},
            "system_fingerprint": "fp_1",
        }


def iso(call: Call) -> str:
    return datetime.fromtimestamp(call.time, UTC).isoformat(sep=" ").removesuffix("+00:00")


def openai(calls: Sequence[Call]) -> list[Row]:
    rows = []
    for call in calls:
        row: Row = {"messages": [*call.messages, call.reply]}
        if call.tools:
            row["tools"] = call.tools
        if call.response_format:
            row["response_format"] = call.response_format
        rows.append(row | {"created": int(call.time)})
    return rows


def _stored(call: Call) -> Row:
    return call.completion() | {
        "metadata": {"name": call.name} | ({"session_id": call.session} if call.session else {}),
        "tools": call.tools,
        "response_format": call.response_format,
        "temperature": call.temperature,
    }


def _listed(call: Call) -> list[Row]:
    return [
        {"id": f"chatcmpl-{call.id}-{at}", "name": None, "content_parts": None, **turn}
        for at, turn in enumerate(call.messages)
    ]


def stored(calls: Sequence[Call]) -> list[Row]:
    """Rows of both halves, as `fledgling` or a script of the user's pulls them."""
    return [{"completion": _stored(call), "messages": _listed(call)} for call in calls]


def stored_apart(calls: Sequence[Call]) -> list[Row]:
    """A page of the list of completions, then the list of messages of each, as the API answers."""
    page = {"object": "list", "data": [_stored(call) for call in calls], "has_more": False}
    return [page, *({"object": "list", "data": _listed(call), "has_more": False} for call in calls)]


def langfuse(calls: Sequence[Call]) -> list[Row]:
    rows: list[Row] = [{"id": "s", "trace_id": "t0", "type": "SPAN", "name": "handler", "input": "{}", "output": None}]
    for call in calls:
        bare = call.reply.get("tool_calls") is None
        output = call.reply["content"] if bare else json.dumps(call.reply, ensure_ascii=False)
        asked: Any = {"messages": call.messages, "tools": call.tools} if call.tools else call.messages
        parameters: Row = {"temperature": call.temperature}
        metadata = {"response_format": call.response_format} if call.response_format else {}
        rows.append(
            {
                "id": f"obs-{call.id}",
                "trace_id": call.trace,
                "type": "GENERATION",
                "name": call.name,
                "start_time": iso(call),
                "provided_model_name": call.model,
                "model_parameters": json.dumps(parameters),
                "input": json.dumps(asked, ensure_ascii=False),
                "output": output,
                "usage_details": {"input": 52, "output": 17},
                "session_id": call.session,
                "metadata": json.dumps(metadata),
                "level": "DEFAULT",
                "tags": list(call.tags),
            }
        )
    return rows


def langfuse_columns(calls: Sequence[Call]) -> list[Row]:
    """Tools and calls in columns of their own, the output as text alone; camelCase, as the API writes."""
    names = {
        "trace_id": "traceId",
        "start_time": "startTime",
        "provided_model_name": "model",
        "session_id": "sessionId",
    }
    rows = []
    for call, row in zip(calls, langfuse(calls)[1:], strict=True):
        row = row | {"input": json.dumps(call.messages)}
        if call.tools:
            row["toolDefinitions"] = {
                tool["function"]["name"]: json.dumps(
                    {**tool["function"], "parameters": json.dumps(tool["function"]["parameters"])}
                )
                for tool in call.tools
            }
        if call.reply.get("tool_calls"):
            row["output"] = json.dumps({"role": "assistant", "content": None})
            row["toolCalls"] = [
                json.dumps({"id": one.get("id"), **one["function"], "type": "function"})
                for one in call.reply["tool_calls"]
            ]
        row["modelParameters"] = row.pop("model_parameters")
        rows.append({names.get(key, key): value for key, value in row.items()})
    return rows


def _parts(turn: Row) -> Row:
    if turn["role"] == "tool":
        part = {"type": "tool_call_response", "id": turn["tool_call_id"], "response": turn["content"]}
        return {"role": "tool", "parts": [part]}
    parts: Turns = [{"type": "reasoning", "content": "Let me think."}] if turn["role"] == "assistant" else []
    if turn.get("content"):
        parts.append({"type": "text", "content": turn["content"]})
    for call in turn.get("tool_calls") or []:
        arguments = json.loads(call["function"]["arguments"])
        named = {"id": call["id"]} if "id" in call else {}
        parts.append({"type": "tool_call", "name": call["function"]["name"], "arguments": arguments, **named})
    return {"role": turn["role"], "parts": parts}


def _gen_ai(call: Call) -> Row:
    system = [turn for turn in call.messages if turn["role"] == "system"]
    rest = [_parts(turn) for turn in call.messages if turn["role"] != "system"]
    attributes: Row = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": call.model,
        "gen_ai.request.temperature": call.temperature,
        "gen_ai.response.finish_reasons": [call.finish_reason],
        "gen_ai.input.messages": rest,
        "gen_ai.output.messages": [{**_parts(call.reply), "finish_reason": call.finish_reason.rstrip("s")}],
        "gen_ai.usage.input_tokens": 52,
    }
    if system:
        attributes["gen_ai.system_instructions"] = [{"type": "text", "content": system[0]["content"]}]
    if call.tools:
        attributes["gen_ai.tool.definitions"] = [{"type": "function", **tool["function"]} for tool in call.tools]
    if call.schema:
        attributes["gen_ai.request.structured_output_schema"] = call.schema
    if call.session:
        attributes["gen_ai.conversation.id"] = call.session
    return attributes


def any_value(value: Any) -> Row:
    """A value as OTLP's JSON has it."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": key, "value": any_value(item)} for key, item in value.items()]}}
    return {} if value is None else {"stringValue": value}


def _otlp(calls: Sequence[Call], attributes: Callable[[Call], Row], *, texts: bool) -> list[Row]:
    spans: Turns = [{"traceId": "0", "spanId": "1", "name": "execute_tool book", "attributes": []}]
    for call in calls:
        given = attributes(call)
        if texts:
            given = {key: json.dumps(item) if isinstance(item, (list, dict)) else item for key, item in given.items()}
        spans.append(
            {
                "traceId": call.trace,
                "spanId": call.id,
                "name": call.name,
                "startTimeUnixNano": str(int(call.time) * 10**9),
                "attributes": [{"key": key, "value": any_value(item)} for key, item in given.items()],
                "status": {},
            }
        )
    half = len(spans) // 2
    return [
        {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {}, "spans": part}]}]}
        for part in (spans[:half], spans[half:])
    ]


def otel(calls: Sequence[Call]) -> list[Row]:
    return _otlp(calls, _gen_ai, texts=True)


def otel_lists(calls: Sequence[Call]) -> list[Row]:
    """Messages as lists and key-value lists instead of JSON text."""
    return _otlp(calls, _gen_ai, texts=False)


def _flat(prefix: str, turns: Turns) -> Row:
    made: Row = {}
    for at, turn in enumerate(turns):
        here = f"{prefix}.{at}.message"
        made |= {f"{here}.{key}": turn[key] for key in ("role", "content", "tool_call_id") if turn.get(key) is not None}
        for number, call in enumerate(turn.get("tool_calls") or []):
            there = f"{here}.tool_calls.{number}.tool_call"
            made |= {f"{there}.function.{key}": call["function"][key] for key in ("name", "arguments")}
            if "id" in call:
                made[f"{there}.id"] = call["id"]
    return made


def _openinference(call: Call) -> Row:
    parameters: Row = {"temperature": call.temperature}
    if call.response_format:
        parameters["response_format"] = call.response_format
    return {
        "openinference.span.kind": "LLM",
        "llm.model_name": call.model,
        "llm.invocation_parameters": json.dumps(parameters),
        **_flat("llm.input_messages", call.messages),
        **_flat("llm.output_messages", [call.reply]),
        **{f"llm.tools.{at}.tool.json_schema": json.dumps(tool) for at, tool in enumerate(call.tools or [])},
        **({"session.id": call.session} if call.session else {}),
    }


def openinference(calls: Sequence[Call]) -> list[Row]:
    return _otlp(calls, _openinference, texts=False)


def openinference_values(calls: Sequence[Call]) -> list[Row]:
    """Only input.value and output.value, one span a row, as Phoenix exports them."""
    return [
        {
            "name": call.name,
            "span_kind": "LLM",
            "context": {"trace_id": call.trace, "span_id": call.id},
            "start_time": iso(call).replace(" ", "T") + "+00:00",
            "status_code": "OK",
            "attributes": {
                "openinference.span.kind": "LLM",
                "llm.model_name": call.model,
                "input.value": json.dumps(call.request()),
                "input.mime_type": "application/json",
                "output.value": json.dumps(call.completion()),
                "output.mime_type": "application/json",
                **({"session.id": call.session} if call.session else {}),
            },
        }
        for call in calls
    ]


def litellm(calls: Sequence[Call]) -> list[Row]:
    rows = []
    for call in calls:
        parameters = {key: value for key, value in call.request().items() if key not in ("model", "messages")}
        rows.append(
            {
                "id": f"chatcmpl-{call.id}",
                "trace_id": call.trace,
                "call_type": "acompletion",
                "status": "success",
                "model": call.model,
                "model_group": "gpt-4o",
                "messages": call.messages,
                "response": call.completion(),
                "model_parameters": parameters,
                "startTime": call.time,
                "metadata": {"generation_name": call.name} | ({"session_id": call.session} if call.session else {}),
                "request_tags": list(call.tags),
            }
        )
    return rows


def helicone(calls: Sequence[Call]) -> list[Row]:
    return [
        {
            "request_id": call.id,
            "request_created_at": iso(call) + "+00",
            "request_body": call.request(),
            "response_body": call.completion(),
            "response_status": 200,
            "request_model": call.model,
            "provider": "OPENAI",
            "request_properties": {"name": call.name} | ({"session": call.session} if call.session else {}),
            "scores": call.scores,
        }
        for call in calls
    ]


LOGS: dict[str, Callable[[Sequence[Call]], list[Row]]] = {
    "openai": openai,
    "stored": stored,
    "stored apart": stored_apart,
    "langfuse": langfuse,
    "langfuse columns": langfuse_columns,
    "otel": otel,
    "otel lists": otel_lists,
    "openinference": openinference,
    "openinference values": openinference_values,
    "litellm": litellm,
    "helicone": helicone,
}


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Rows as JSON Lines, or as Parquet by the name of the file."""
    if path.suffix == ".parquet":
        columns = dict.fromkeys(key for row in rows for key in row)
        whole = [{key: row.get(key) for key in columns} for row in rows]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(whole), path)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


BOOK = {
    "type": "function",
    "function": {
        "name": "book",
        "description": "Book a table.",
        "parameters": {
            "type": "object",
            "properties": {"seats": {"type": "integer"}, "place": {"type": "string"}},
            "required": ["seats"],
        },
    },
}
ORDER = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "amount": {"type": "number"}},
    "required": ["item", "amount"],
    "additionalProperties": False,
}
TOWNS = ["Oslo", "Rome", "Łódź", "Kyōto", "Bern", "Lima", "Cork", "Nice", "Faro", "Graz"]


def booking(number: int, **more: Any) -> Call:
    """A call of a tool."""
    town = TOWNS[number % len(TOWNS)]
    arguments = json.dumps({"seats": number + 1, "place": town}, ensure_ascii=False)
    reply = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": f"call_{number}", "type": "function", "function": {"name": "book", "arguments": arguments}}
        ],
    }
    asked = [
        {"role": "system", "content": "You book tables."},
        {"role": "user", "content": f"A table for {number + 1} in {town}, by the window, please"},
    ]
    about = {"id": f"b{number}", "trace": f"tb{number}", "time": 1_790_000_000.0 + 60 * number}
    return Call(asked, reply, tools=[BOOK], **(about | more))


def order(number: int, **more: Any) -> Call:
    """A call whose answer is an object."""
    said = json.dumps({"item": f"chairs “{number}”", "amount": number + 0.5}, ensure_ascii=False)
    asked = [
        {"role": "user", "content": f"We take {number} chairs at {number + 0.5} each, delivered to the old harbour"}
    ]
    about = {"id": f"o{number}", "trace": f"to{number}", "time": 1_790_000_000.0 + 60 * number}
    return Call(asked, {"role": "assistant", "content": said}, schema=ORDER, **(about | more))
