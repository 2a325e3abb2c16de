"""LiteLLM's StandardLoggingPayload (docs.litellm.ai/docs/proxy/logging_spec)."""

from fledgling.artefacts import JsonObject
from fledgling.data.traces.chat import finish_of, object_of, reply_of, request_of, turn, turns_of
from fledgling.data.traces.record import Record, first, moment, text, texts, usage

_CALLS = ("completion", "acompletion", "text_completion", "atext_completion", None)


def told_by(row: JsonObject) -> bool:
    """Whether a row is of this format."""
    return {"messages", "response", "model"} <= row.keys() and bool(
        {"call_type", "startTime", "model_group"} & row.keys()
    )


def read(row: JsonObject) -> Record | None:
    """One payload; None where it is no completion."""
    if row.get("call_type") not in _CALLS:
        return None
    parameters, metadata = (object_of(row.get(name), name) for name in ("model_parameters", "metadata"))
    error = None
    if row.get("status") not in ("success", None):
        error = text(first(row, "error_str", "status")) or "status is not success"
    choice = {} if error else reply_of(row.get("response"), "response")
    body = object_of(row.get("response"), "response") if not error else {}
    message = choice.get("message")
    return Record(
        log="litellm",
        messages=turns_of(request_of(row.get("messages"), "messages")["messages"], "messages"),
        reply=turn(message, "response") if isinstance(message, dict) else None,
        tools=first(parameters, "tools", "functions"),
        schema=first(parameters, "response_format"),
        model=text(body.get("model")) or text(row.get("model")),
        time=moment(first(row, "startTime", "start_time"), "startTime"),
        session=text(first(row, "session_id") or first(metadata, "session_id")),
        trace=text(row.get("trace_id")),
        name=text(first(metadata, "generation_name", "trace_name", "name") or row.get("model_group")),
        tags=texts(row.get("request_tags")),
        parameters=parameters,
        usage=usage(body.get("usage")),
        finish=finish_of(choice),
        error=error,
        id=text(first(row, "litellm_call_id", "id")),  # a reply of its cache has the id of the first one
    )
