"""Turns of a conversation in the forms of other tools, as OpenAI's: ShareGPT's `from` and `value`, Anthropic's parts."""

from collections.abc import Iterator

from fledgling.artefacts import Json, JsonObject
from fledgling.data.values import as_list, as_object, decoded

ROLES = ("system", "user", "assistant", "tool")
_OTHER_NAMES = {
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "tool_results": "tool",
}
_CALLS = ("function_call", "tool_call")  # roles of ShareGPT whose words are the calls


def plain(value: Json, key: str) -> Iterator[JsonObject]:
    """A turn as OpenAI writes it; results of tools inside a user's turn come as turns of their own before it.

    Raises:
        Unusable: not an object.
    """
    turn = as_object(value, key)
    given = turn.get("role", turn.get("from"))
    made = {name: item for name, item in turn.items() if name not in ("from", "value")}
    made["role"] = _OTHER_NAMES.get(given, given) if isinstance(given, str) else given
    if "content" not in turn and "value" in turn:
        made["content"] = turn["value"]
    if made["role"] == "assistant" and not made.get("content") and isinstance(refusal := turn.get("refusal"), str):
        made["content"] = refusal  # what OpenAI's models say where they refuse
    if given in _CALLS and not turn.get("tool_calls"):
        found = decoded(made.get("content"), f"{key}.{'value' if 'value' in turn else 'content'}")
        made |= {"content": None, "tool_calls": found if isinstance(found, list) else [found]}
    yield from _parted(made, key)


def _parted(turn: JsonObject, key: str) -> Iterator[JsonObject]:
    """A turn whose content may have parts that are calls or results of tools."""
    content = turn.get("content")
    parts = as_list(content, key) if isinstance(content, list) else []
    used = [part for part in parts if isinstance(part, dict) and part.get("type") == "tool_use"]
    results = [part for part in parts if isinstance(part, dict) and part.get("type") == "tool_result"]
    if not used and not results:
        yield turn
        return
    for part in results:
        yield {"role": "tool", "content": part.get("content", ""), "tool_call_id": part.get("tool_use_id")}
    rest: list[Json] = [part for part in parts if part not in used and part not in results]
    if used:
        called: list[Json] = [
            {"id": part.get("id"), "function": {"name": part.get("name"), "arguments": part.get("input")}}
            for part in used
        ]
        yield {**turn, "content": rest or None, "tool_calls": called}
    elif rest:
        yield {**turn, "content": rest}
