"""Helicone's export with bodies (`npx @helicone/export --format jsonl --include-body`)."""

from fledgling.artefacts import JsonObject
from fledgling.data.invalid import Unusable
from fledgling.data.traces.chat import finish_of, is_listing, object_of, reply_of, request_of, turn, turns_of
from fledgling.data.traces.record import Record, first, moment, number, text, texts, usage


def told_by(row: JsonObject) -> bool:
    """Whether a row is of this format."""
    return "request_body" in row or {"request_id", "response_status"} <= row.keys()


def read(row: JsonObject) -> Record | None:
    """One request with its bodies; None where it asked for embeddings."""
    status = number(row.get("response_status"))
    failed = status is not None and not 200 <= status < 300
    if row.get("request_body") is None:
        where = "; its body lies behind signed_body_url" if row.get("signed_body_url") else ""
        raise Unusable("body_absent", f"key 'request_body' is missing{where}; export with --include-body")
    asked = request_of(row["request_body"], "request_body")
    body = object_of(row.get("response_body"), "response_body") if not failed else {}
    if is_listing(body):
        return None
    choice = {} if failed else reply_of(row.get("response_body"), "response_body")
    message, properties = choice.get("message"), object_of(row.get("request_properties"), "request_properties")
    scores = object_of(row.get("scores"), "scores")
    return Record(
        log="helicone",
        messages=turns_of(asked["messages"], "request_body.messages"),
        reply=turn(message, "response_body") if isinstance(message, dict) else None,
        tools=first(asked, "tools", "functions"),
        schema=first(asked, "response_format"),
        model=text(body.get("model")) or text(first(row, "request_model", "model")),
        time=moment(row.get("request_created_at"), "request_created_at"),
        session=text(first(properties, "Helicone-Session-Id", "session_id", "session")),
        trace=text(properties.get("trace_id")),
        name=text(first(properties, "Helicone-Session-Name", "name", "task") or row.get("prompt_id")),
        tags=texts(properties.get("tags")),
        feedback={name: score for name, item in scores.items() if (score := number(item)) is not None},
        parameters={name: value for name, value in asked.items() if name not in ("messages", "tools", "functions")},
        usage=usage(body.get("usage")),
        finish=finish_of(choice),
        status=None if status is None else int(status),
        id=text(row.get("request_id")),
    )
