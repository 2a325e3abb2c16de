"""Observations of Langfuse: blob-storage exports (JSON Lines, Parquet), exports of its page, and its API's camelCase.

Nested values are JSON text in the exports; what no generation is (spans, events, tools) is no call.
"""

import re

from fledgling.artefacts import Json, JsonObject
from fledgling.data.traces.chat import call, finish_of, object_of, reply_of, request_of, turn, turns_of, value_of
from fledgling.data.traces.record import Record, first, moment, number, text, texts, usage

_CAPITAL = re.compile(r"(?<=[a-z0-9])[A-Z]")


def told_by(row: JsonObject) -> bool:
    """Whether a row is of this format."""
    if {"messages", "answer", "answers"} & row.keys():
        return False  # a row of somebody's that happens to name its trace
    return {"trace_id", "type"} <= row.keys() or {"traceId", "type"} <= row.keys()


def read(row: JsonObject) -> Record | None:
    """One observation; None where it is no call of a model."""
    row = {_CAPITAL.sub(lambda letter: f"_{letter[0].lower()}", name): value for name, value in row.items()}
    if row.get("type") != "GENERATION":
        return None
    metadata = object_of(row.get("metadata"), "metadata")
    parameters = {
        **object_of(metadata.get("parameters"), "metadata"),
        **object_of(row.get("model_parameters"), "model"),
    }
    error = text(row.get("status_message")) or "level ERROR" if row.get("level") == "ERROR" else None
    asked, choice = {}, {}
    if error is None:
        asked, choice = request_of(row.get("input"), "input"), reply_of(row.get("output"), "output")
    return Record(
        log="langfuse",
        messages=turns_of(asked.get("messages", []), "input"),
        reply=_reply(choice, row),
        tools=first(asked, "tools", "functions") or _tools(row),
        schema=first(asked, "response_format") or first({**metadata, **parameters}, "response_format"),
        model=text(first(row, "provided_model_name", "model", "model_name", "internal_model_id")),
        time=moment(row.get("start_time"), "start_time"),
        session=text(row.get("session_id")),
        trace=text(row.get("trace_id")),
        name=text(first(row, "name", "prompt_name")),
        tags=texts(value_of(first(row, "tags", "trace_tags"), "tags")),
        feedback=_scores(value_of(row.get("scores"), "scores")),
        parameters=parameters,
        usage=usage(value_of(row.get("usage_details"), "usage_details")),
        finish=finish_of(choice, first(metadata, "finish_reason")),
        error=error,
        id=text(row.get("id")),
    )


def _reply(choice: JsonObject, row: JsonObject) -> JsonObject | None:
    """The message; its calls stand in a column of their own where the output has only its text."""
    message = choice.get("message")
    if not isinstance(message, dict):
        return None
    listed = value_of(row.get("tool_calls"), "tool_calls")
    if isinstance(listed, list) and listed and not message.get("tool_calls") and not message.get("function_call"):
        items = [value_of(item, "tool_calls") for item in listed]
        calls: list[Json] = [
            item if "function" in item else call(item.get("name"), item.get("arguments"), item.get("id"))
            for item in items
            if isinstance(item, dict)
        ]
        message = {**message, "tool_calls": calls}
    return turn(message, "output")


def _tools(row: JsonObject) -> Json:
    """Tools from their own column: a list, or definitions by name, nested ones as JSON text."""
    found = value_of(first(row, "tool_definitions", "tools"), "tool_definitions")
    if not isinstance(found, dict):
        return found or None
    made: list[Json] = []
    for name, given in found.items():
        about = object_of(given, f"tool_definitions.{name}")
        parameters = value_of(about.get("parameters"), f"tool_definitions.{name}.parameters")
        made.append({**about, "name": name, **({} if parameters is None else {"parameters": parameters})})
    return made or None


def _scores(value: Json) -> dict[str, float]:
    """Scores by name, of a list of {"name", "value"} or of an object."""
    pairs: list[tuple[Json, Json]] = list(value.items()) if isinstance(value, dict) else []
    if isinstance(value, list):
        pairs = [(item.get("name"), item.get("value")) for item in value if isinstance(item, dict)]
    found = ((name, number(score)) for name, score in pairs)
    return {name: score for name, score in found if isinstance(name, str) and score is not None}
