"""The messages of a row, every turn of the history checked as the answer is: what passes here can be asked."""

from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject
from fledgling.data import calls
from fledgling.data.invalid import Unusable
from fledgling.data.values import as_list, as_object, decoded

_ROLES = ("system", "user", "assistant", "tool")
_OTHER_NAMES = {"developer": "system", "function": "tool"}


def messages(value: Json, key: str = "messages") -> list[JsonObject]:
    """The turns up to the answer, in OpenAI's form.

    Raises:
        Unusable: a turn that no contender could be given, none of the user's, or the answer among them.
    """
    turns = [_turn(turn, f"{key}[{index}]") for index, turn in enumerate(as_list(decoded(value, key), key))]
    if not any(turn["role"] == "user" for turn in turns):
        raise Unusable("no_request", f"key '{key}': there is no user message")
    if turns[-1]["role"] == "assistant":
        raise Unusable(
            "no_request",
            f"{key}[{len(turns) - 1}] is the assistant's and the last one before the answer; the answer has to follow"
            " a message of the user or a tool's result",
        )
    return turns


def split_answer(value: Json) -> tuple[list[Json], JsonObject, str]:
    """Messages whose last turn is the answer: the turns before it, that turn, its key.

    Raises:
        Unusable: the last turn is not the assistant's, follows another of the assistant's, or is not to be learnt.
    """
    turns = as_list(decoded(value, "messages"), "messages")
    at = len(turns) - 1
    last = turns[-1] if turns else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        raise Unusable("no_answer", "key 'messages': the last message must be the assistant's, it is the answer")
    before = turns[-2] if at else None
    if isinstance(before, dict) and before.get("role") == "assistant":
        raise Unusable(
            "two_answers",
            f"messages[{at - 1}] and messages[{at}] are two assistant turns in a row; end the row at the one that is"
            " the answer",
        )
    weight = last.get("weight")
    if weight is not None and not weight:
        raise Unusable(
            "weight",
            f"messages[{at}].weight is 0: this turn is not to be learnt; end the row at the turn that is the answer",
        )
    return turns[:-1], last, f"messages[{at}]"


def _turn(value: Json, key: str) -> JsonObject:
    turn = as_object(value, key)
    given = turn.get("role")
    role = _OTHER_NAMES.get(given, given) if isinstance(given, str) else given
    if role not in _ROLES:
        raise Unusable("role", f"{key}.role: {given!r} is none of {', '.join(_ROLES)}")
    made: JsonObject = {"role": role, "content": _content(turn.get("content"), key, role == "assistant")}
    for name in ("tool_call_id", "name"):
        if turn.get(name) is not None:
            if not isinstance(turn[name], str):
                raise Unusable("turn", f"{key}.{name}: expected text, found {type(turn[name]).__name__}")
            made[name] = turn[name]
    called = calls.of_turn(turn, key)
    if called and role != "assistant":
        raise Unusable("turn", f"{key}.tool_calls: only the assistant calls tools, and this is the {role}'s turn")
    if called:
        made["tool_calls"] = [_openai(call, given) for call, given in called]
    elif made["content"] is None:
        made["content"] = ""
    return made


def _openai(call: calls.Call, given: JsonObject) -> JsonObject:
    arguments: Json = strict_json.dumps(call["arguments"])
    function = given.get("function")
    if isinstance(function, dict) and isinstance(function.get("arguments"), str) and function["arguments"]:
        arguments = function["arguments"]  # as it was written
    identity: JsonObject = {"id": given["id"]} if isinstance(given.get("id"), str) else {}
    return {**identity, "type": "function", "function": {"name": call["name"], "arguments": arguments}}


def _content(content: Json, key: str, may_be_missing: bool) -> str | None:
    if isinstance(content, list):
        return "".join(_text_of(part, f"{key}.content[{index}]") for index, part in enumerate(content))
    if isinstance(content, str) or (content is None and may_be_missing):
        return content
    raise Unusable("content", f"{key}.content: expected text, found {type(content).__name__}")


def _text_of(part: Json, key: str) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise Unusable("content", f"{key}: only parts of type text are read")
    return text
