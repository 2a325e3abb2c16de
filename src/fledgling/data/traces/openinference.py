"""Spans by OpenInference's conventions (Arize, Phoenix): flattened attributes, or input.value and output.value."""

from fledgling.artefacts import Json, JsonObject
from fledgling.data.invalid import Unusable
from fledgling.data.traces.chat import call, finish_of, object_of, reply_of, request_of, turn, turns_of, value_of
from fledgling.data.traces.record import Record, first, moment, number, text, texts
from fledgling.data.traces.spans import about, attributes_of, error_of, nested
from fledgling.data.values import as_list, as_object

_READ = frozenset(("llm", "openinference", "session", "tag", "input", "output"))  # what others mean is theirs


def told_by(row: JsonObject) -> bool:
    """Whether a row is of this format."""
    return any(
        name.startswith(("llm.", "openinference.")) or name in ("llm", "openinference") for name in attributes_of(row)
    )


def read(row: JsonObject) -> Record | None:
    """One span; None where it is no call of a model."""
    given = nested({name: value for name, value in attributes_of(row).items() if name.partition(".")[0] in _READ})
    kind = first(row, "span_kind") or _at(given, "openinference", "span", "kind")
    if kind not in ("LLM", None):
        return None
    llm = as_object(given.get("llm", {}), "llm")
    error = error_of(row, attributes_of(row))
    asked, choice = ({}, {}) if error else (_asked(given, llm), _choice(given, llm))
    parameters = object_of(llm.get("invocation_parameters"), "llm.invocation_parameters")
    message = choice.get("message")
    return Record(
        log="openinference",
        messages=turns_of(asked.get("messages", []), "llm.input_messages"),
        reply=turn(message, "llm.output_messages") if isinstance(message, dict) else None,
        tools=_tools(llm) or first(asked, "tools") or first(parameters, "tools"),
        schema=first(asked, "response_format") or first(parameters, "response_format"),
        model=text(llm.get("model_name")) or text(asked.get("model")),
        time=moment(first(row, "start_time", "startTime"), "start_time"),
        session=text(_at(given, "session", "id")),
        trace=text(about(row, "trace_id")),
        name=text(row.get("name")),
        tags=texts(_at(given, "tag", "tags")),
        feedback=_annotations(row),
        parameters=parameters,
        usage={
            f"{name}_tokens": count
            for name in ("prompt", "completion")
            if isinstance(count := _at(llm, "token_count", name), int)
        },
        finish=finish_of(choice, first(llm, "finish_reason")),
        error=error,
        id=text(about(row, "span_id")),
    )


def _asked(given: JsonObject, llm: JsonObject) -> JsonObject:
    listed = llm.get("input_messages")
    if isinstance(listed, list) and listed:
        return {"messages": [_message(item, f"llm.input_messages[{at}]") for at, item in enumerate(listed)]}
    return request_of(_at(given, "input", "value"), "input.value")


def _choice(given: JsonObject, llm: JsonObject) -> JsonObject:
    listed = llm.get("output_messages")
    if isinstance(listed, list) and listed:
        message = {**_message(listed[0], "llm.output_messages[0]"), "role": "assistant"}
        return {"message": message, "finish_reason": _finish(given)}
    return reply_of(_at(given, "output", "value"), "output.value")


def _finish(given: JsonObject) -> Json:
    """Why the reply ended: only the body of the reply says so, that of the Responses API where it did not end well."""
    try:
        incomplete = object_of(_at(given, "output", "value"), "output.value").get("incomplete_details")
        if isinstance(incomplete, dict):
            return incomplete.get("reason")
        return reply_of(_at(given, "output", "value"), "output.value").get("finish_reason")
    except Unusable:
        return None


def _message(item: Json, key: str) -> JsonObject:
    """A message of attributes as OpenAI has it."""
    about_it = as_object(nested(as_object(item, key)).get("message", {}), f"{key}.message")
    made: JsonObject = {"role": about_it.get("role"), "content": about_it.get("content")}
    parts = about_it.get("contents")
    if made["content"] is None and isinstance(parts, list):
        made["content"] = [nested(as_object(part, key)).get("message_content") for part in parts]
    for name in ("tool_call_id", "name"):
        if about_it.get(name) is not None:
            made[name] = about_it[name]
    listed = about_it.get("tool_calls")
    calls: list[Json] = []
    for found in as_list([] if listed is None else listed, f"{key}.message.tool_calls"):
        called = as_object(nested(as_object(found, key)).get("tool_call", {}), f"{key}.tool_call")
        function = as_object(called.get("function", {}), f"{key}.tool_call.function")
        calls.append(call(function.get("name"), function.get("arguments"), called.get("id")))
    return {**made, "tool_calls": calls} if calls else made


def _tools(llm: JsonObject) -> Json:
    listed = llm.get("tools")
    if not isinstance(listed, list):
        return None
    tools = [nested(as_object(item, "llm.tools")) for item in listed]
    return [value_of(_at(tool, "tool", "json_schema"), "llm.tools.tool.json_schema") for tool in tools] or None


def _annotations(row: JsonObject) -> dict[str, float]:
    """Scores of people and evaluators, as Phoenix exports them beside a span."""
    listed = first(row, "annotations", "span_annotations")
    made: dict[str, float] = {}
    for item in listed if isinstance(listed, list) else []:
        given = item if isinstance(item, dict) else {}
        result = given.get("result")
        score = number(result.get("score") if isinstance(result, dict) else given.get("score"))
        if isinstance(given.get("name"), str) and score is not None:
            made[str(given["name"])] = score
    return made


def _at(node: Json, *names: str) -> Json:
    for name in names:
        node = node.get(name) if isinstance(node, dict) else None
    return node
