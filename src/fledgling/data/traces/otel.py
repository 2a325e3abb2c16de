"""Spans and events by OpenTelemetry's conventions for generative AI (gen_ai.*, semantic-conventions-genai 0.1)."""

from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject
from fledgling.data.invalid import Unusable
from fledgling.data.traces.chat import call, finish_of, value_of
from fledgling.data.traces.record import Record, first, moment, number, text, texts, usage
from fledgling.data.traces.spans import about, attributes_of, error_of
from fledgling.data.values import as_list, as_object

_CALLS = ("chat", "text_completion", "generate_content", None)
_OLDER = (
    "gen_ai.system.message",
    "gen_ai.user.message",
    "gen_ai.assistant.message",
    "gen_ai.tool.message",
    "gen_ai.choice",
)
_THOUGHTS = ("reasoning", "thinking")
_RESULTS = ("response", "result", "output", "content")


def told_by(row: JsonObject) -> bool:
    """Whether a row is of this format."""
    return any(name.startswith("gen_ai.") for name in attributes_of(row))


def read(row: JsonObject) -> Record | None:
    """One span or event; None where it is no call of a model (an agent, a tool, an embedding)."""
    given = attributes_of(row)
    if str(row.get("name")).startswith(_OLDER):
        raise Unusable(
            "older_events",
            f"an event {row['name']!r} of the older conventions, which hold no tools and one message an event; set"
            " OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental where the calls are made",
        )
    if given.get("gen_ai.operation.name") not in _CALLS:
        return None
    error = error_of(row, given)
    reply, finish = (None, None) if error else _reply(given.get("gen_ai.output.messages"))
    ended = first({"all": value_of(given.get("gen_ai.response.finish_reasons"), "finish_reasons")}, "all")
    prefix = "gen_ai.request."
    return Record(
        log="otel",
        messages=[] if error else _messages(given),
        reply=reply,
        tools=value_of(given.get("gen_ai.tool.definitions"), "gen_ai.tool.definitions"),
        schema=value_of(
            first(given, "gen_ai.request.structured_output_schema", "gen_ai.request.response_format"), "schema"
        ),
        model=text(first(given, "gen_ai.response.model", "gen_ai.request.model")),
        time=moment(first(row, "start_time", "startTime", "startTimeUnixNano"), "start_time"),
        session=text(first(given, "gen_ai.conversation.id", "session.id")),
        trace=text(about(row, "trace_id")),
        name=text(first(given, "gen_ai.prompt.name", "gen_ai.agent.name") or row.get("name")),
        tags=texts(first(given, "tag.tags", "tags")),
        feedback=_feedback(given),
        parameters={name.removeprefix(prefix): item for name, item in given.items() if name.startswith(prefix)},
        usage=usage({name.removeprefix("gen_ai.usage."): item for name, item in given.items()}),
        finish=finish_of({"finish_reason": finish}, ended[0] if isinstance(ended, list) and ended else ended),
        error=error,
        id=text(about(row, "span_id")) or text(given.get("gen_ai.response.id")),
    )


def _messages(given: JsonObject) -> list[Json]:
    """The instructions and the messages as turns."""
    listed = value_of(given.get("gen_ai.input.messages"), "gen_ai.input.messages")
    if not isinstance(listed, list) or not listed:
        raise Unusable("body_absent", "attribute gen_ai.input.messages is missing: content capture was off")
    turns: list[Json] = []
    instructions = value_of(given.get("gen_ai.system_instructions"), "gen_ai.system_instructions")
    if isinstance(instructions, list) and instructions:
        turns += _turns({"role": "system", "parts": instructions}, "gen_ai.system_instructions")
    elif isinstance(instructions, str) and instructions:
        turns.append({"role": "system", "content": instructions})
    for index, item in enumerate(listed):
        key = f"gen_ai.input.messages[{index}]"
        turns += _turns(as_object(item, key), key)
    return turns


def _reply(value: Json) -> tuple[JsonObject | None, Json]:
    listed = value_of(value, "gen_ai.output.messages")
    if not isinstance(listed, list) or not listed:
        raise Unusable("body_absent", "attribute gen_ai.output.messages is missing: content capture was off")
    message = as_object(listed[0], "gen_ai.output.messages[0]")
    turns = _turns({"role": "assistant", **message}, "gen_ai.output.messages[0]")
    return (turns[0] if turns else None), message.get("finish_reason")


def _turns(message: JsonObject, key: str) -> list[JsonObject]:
    """A message of parts as turns: each tool's response is one of its own; thoughts are left out."""
    said: list[str] = []
    calls: list[Json] = []
    results: list[JsonObject] = []
    if "parts" not in message and isinstance(message.get("content"), str):
        return [{"role": message.get("role"), "content": message["content"]}]
    for at, item in enumerate(as_list(message.get("parts"), f"{key}.parts")):
        part = as_object(item, f"{key}.parts[{at}]")
        kind = part.get("type")
        if kind == "text":
            written = first(part, "content", "text")
            if not isinstance(written, str):
                raise Unusable("content", f"{key}.parts[{at}]: a part of type text has no text under content")
            said.append(written)
        elif kind == "tool_call":
            calls.append(call(part.get("name"), part.get("arguments"), part.get("id")))
        elif kind == "tool_call_response":
            results.append(_result(part, f"{key}.parts[{at}]"))
        elif kind not in _THOUGHTS:
            raise Unusable(
                "content", f"{key}.parts[{at}]: only parts of type text and tool_call are read, not {kind!r}"
            )
    if results and not said and not calls:
        return results
    turn: JsonObject = {"role": message.get("role"), "content": "".join(said) if said or not calls else None}
    return [*results, {**turn, "tool_calls": calls} if calls else turn]


def _result(part: JsonObject, key: str) -> JsonObject:
    if not any(name in part for name in _RESULTS):
        raise Unusable("content", f"{key}: a tool's response has none of {', '.join(_RESULTS)}")
    found = first(part, *_RESULTS)
    content = found if isinstance(found, str) else strict_json.dumps(found)
    named: JsonObject = {"tool_call_id": part["id"]} if isinstance(part.get("id"), str) else {}
    return {"role": "tool", **named, "content": content}


def _feedback(given: JsonObject) -> dict[str, float]:
    """The score of an evaluation event."""
    name, value = given.get("gen_ai.evaluation.name"), number(given.get("gen_ai.evaluation.score.value"))
    return {name: value} if isinstance(name, str) and value is not None else {}
