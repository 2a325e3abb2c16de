"""Stored completions of OpenAI and Azure (`store: true`), as their API gives them.

A dump holds either rows {"completion", "messages"}, or completions and their lists of messages as rows of their own,
which belong together by the completion's id.
"""

from collections.abc import Iterator

from fledgling.artefacts import Json, JsonObject
from fledgling.data.invalid import Unusable
from fledgling.data.traces.chat import finish_of, object_of, reply_of, turns_of, value_of
from fledgling.data.traces.record import Record, first, moment, text, texts, usage

_ADDED = ("id", "content_parts")  # keys of a listed message that no request has
_PARAMETERS = ("temperature", "top_p", "seed", "max_completion_tokens", "max_tokens")


def told_by(row: JsonObject) -> bool:
    """Whether a row is of this format."""
    completion = row.get("completion")
    whole = isinstance(completion, dict) and ("choices" in completion or "messages" in row)
    return whole or row.get("object") == "chat.completion"


def read(row: JsonObject) -> Record:
    """One completion with its messages."""
    body = object_of(row["completion"], "completion") if "completion" in row else row
    asked = value_of(first(row, "messages", "input_messages"), "messages")
    if isinstance(asked, dict):
        asked = asked.get("data")
    if not isinstance(asked, list) or not asked:
        raise Unusable("body_absent", "key 'messages': the messages of this completion are missing (its API has them)")
    choice = reply_of(body, "completion")
    reply = choice.get("message")
    metadata = object_of(body.get("metadata"), "metadata")
    return Record(
        log="stored",
        messages=turns_of([_plain(item) for item in asked], "messages"),
        reply=reply if isinstance(reply, dict) else None,
        tools=first(body, "tools"),
        schema=first(body, "response_format"),
        model=text(body.get("model")),
        time=moment(body.get("created"), "created"),
        session=text(first(metadata, "session_id", "conversation_id", "session", "conversation")),
        trace=text(metadata.get("trace_id")),
        name=text(first(metadata, "name", "category", "task")),
        tags=texts(metadata.get("tags")),
        parameters={name: body[name] for name in _PARAMETERS if body.get(name) is not None},
        usage=usage(body.get("usage")),
        finish=finish_of(choice),
        id=text(body.get("id")),
    )


def _plain(item: Json) -> Json:
    """A listed message without the id that the API gave it, its text parts in the place of its text."""
    if not isinstance(item, dict):
        return item
    kept: JsonObject = {name: value for name, value in item.items() if name not in _ADDED and value is not None}
    parts = item.get("content_parts")
    return {**kept, "content": parts} if isinstance(parts, list) and "content" not in kept else kept


class Pairs:
    """Completions and lists of messages that wait for each other."""

    def __init__(self) -> None:
        self._completions: dict[str, tuple[int, JsonObject]] = {}
        self._messages: dict[str, tuple[int, list[Json]]] = {}

    def take(self, number: int, row: JsonObject) -> Iterator[tuple[int, object]]:
        """The row, or the pair that it completes; nothing while its other half is missing."""
        if row.get("object") == "chat.completion" and not {"messages", "input_messages"} & row.keys():
            identity = text(row.get("id")) or f"row {number}"
            found = self._messages.pop(identity, None)
            if found is None:
                self._completions[identity] = (number, row)
            else:
                yield number, {"completion": row, "messages": list(found[1])}
        elif (of := messages_of(row)) is not None:
            kept = self._completions.pop(of, None)
            data = row.get("data")
            if kept is None:
                self._messages[of] = (number, data if isinstance(data, list) else [])
            else:
                yield kept[0], {"completion": kept[1], "messages": data}
        else:
            yield number, row

    def rest(self) -> Iterator[tuple[int, object]]:
        """What stayed alone."""
        for number, row in self._completions.values():
            yield number, row  # refused by `read`, with its reason
        for identity, (number, _) in self._messages.items():
            yield number, Unusable("body_absent", f"messages of {identity!r}, whose completion is not in this file")


def messages_of(row: JsonObject) -> str | None:
    """Whose messages a list holds; None for other rows."""
    data = row.get("data")
    if row.get("object") != "list" or not isinstance(data, list) or not data:
        return None
    identity = data[0].get("id") if isinstance(data[0], dict) and "role" in data[0] else None
    return identity.rpartition("-")[0] or identity if isinstance(identity, str) else None
