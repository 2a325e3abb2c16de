"""OpenAI's fine-tuning JSONL, as Phoenix, Helicone and OpenPipe export it: {"messages", "tools"?, …}."""

from fledgling.artefacts import JsonObject
from fledgling.data.invalid import Unusable
from fledgling.data.traces.chat import turns_of, value_of
from fledgling.data.traces.record import Record, first, moment, text, texts


def told_by(row: JsonObject) -> bool:
    """Whether a row is of this format."""
    return "messages" in row and not {"response", "completion", "choices", "request_body"} & row.keys()


def read(row: JsonObject) -> Record:
    """One row; the last assistant's turn is the reply, the turns after it are tools' results."""
    turns = turns_of(value_of(row["messages"], "messages"), "messages")
    at = next((at for at in reversed(range(len(turns))) if _speaks(turns[at])), None)
    if at is None:
        raise Unusable("body_absent", "key 'messages': no turn is the assistant's, so there is no reply")
    reply = turns[at]
    meta = value_of(row.get("metadata"), "metadata")
    known = {**(meta if isinstance(meta, dict) else {}), **row}
    return Record(
        log="openai",
        messages=turns[:at],
        reply=reply if isinstance(reply, dict) else None,
        later=tuple(turns[at + 1 :]),
        tools=first(row, "tools", "functions"),
        schema=first(row, "schema", "response_format"),
        model=text(known.get("model")),
        time=moment(first(known, "time", "timestamp", "created_at", "created"), "time"),
        session=text(first(known, "session_id", "conversation_id")),
        trace=text(known.get("trace_id")),
        name=text(known.get("name")),
        tags=texts(known.get("tags")),
    )


def _speaks(turn: object) -> bool:
    return isinstance(turn, dict) and turn.get("role") == "assistant"
