"""Whether a call of a tool failed, by what the tool answered."""

import re
from collections.abc import Iterator, Sequence

from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject

_SAYS_ERROR = re.compile(
    r"\s*(?:error\b|exception\b|traceback \(most recent|[\w.]*(?:error|exception):)", re.IGNORECASE
)
_FAILED = ("error", "failed", "failure")


def failed(turn: JsonObject) -> bool:
    """Whether a tool's result is an error: marked so on its turn, in its JSON, or by how its text begins."""
    if turn.get("is_error") is True or turn.get("status") == "error":
        return True
    content = turn.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        return False
    if content.lstrip()[:1] == "{":
        try:
            return _says(strict_json.loads(content))
        except ValueError:
            return False
    return _SAYS_ERROR.match(content) is not None


def _says(found: Json) -> bool:
    if not isinstance(found, dict):
        return False
    if found.get("isError") is True or found.get("is_error") is True or found.get("success") is False:
        return True
    status = found.get("status")
    return bool(found.get("error") or found.get("errors")) or (isinstance(status, str) and status.lower() in _FAILED)


def results(turns: Sequence[Json]) -> Iterator[tuple[str, bool]]:
    """(id of the call, whether it failed) of every tool's result; one without an id belongs to the next open call."""
    waiting: list[str] = []
    for turn in turns:
        if not isinstance(turn, dict):
            continue
        if turn.get("role") == "assistant":
            waiting = call_ids(turn)
        elif turn.get("role") in ("tool", "function"):
            given = turn.get("tool_call_id")
            identity = given if isinstance(given, str) else waiting[0] if waiting else ""
            if identity in waiting:
                waiting.remove(identity)
            yield identity, failed(turn)


def call_ids(turn: JsonObject | None) -> list[str]:
    """What the calls of an assistant's turn are known by: their ids, else their places."""
    calls = (turn or {}).get("tool_calls")
    found = calls if isinstance(calls, list) else []
    ids = [call.get("id") if isinstance(call, dict) else None for call in found]
    return [identity if isinstance(identity, str) else f"#{at}" for at, identity in enumerate(ids)]
