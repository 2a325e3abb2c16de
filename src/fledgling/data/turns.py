"""The messages of a row, every turn of the history checked as the answer is: what passes here can be asked."""

from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject
from fledgling.data import calls
from fledgling.data.invalid import Unusable
from fledgling.data.turn_forms import ROLES, plain
from fledgling.data.values import as_list, decoded
from fledgling.tracks.dialects import split_calls


def messages(value: Json, key: str = "messages") -> list[JsonObject]:
    """The turns up to the answer, in OpenAI's form.

    Raises:
        Unusable: a turn that no contender could be given, none of the user's, or the answer among them.
    """
    given = as_list(decoded(value, key), key)
    places = [f"{key}[{index}]" for index in range(len(given))]
    turns: list[JsonObject] = []
    for item, place in zip(given, places, strict=True):
        for turn in plain(item, place):
            turns.append(_turn(turn, place))
            if turns[-1]["role"] == "tool":
                _require_call(turns, place)
    if not any(turn["role"] == "user" for turn in turns):
        raise Unusable("no_request", f"key '{key}': there is no user message")
    if turns[-1]["role"] == "assistant":
        raise Unusable(
            "no_request",
            f"{places[-1]} is the assistant's and the last one before the answer; the answer has to follow"
            " a message of the user or a tool's result",
        )
    return turns


def _require_call(turns: list[JsonObject], key: str) -> None:
    """See that a tool's result follows a call, which may stand in the words of the turn before: then it moves to its
    place, so that every contender reads it in its own form.

    Raises:
        Unusable: nothing called a tool; endpoints refuse such a conversation.
    """
    before = next((turn for turn in reversed(turns) if turn["role"] != "tool"), {})
    said = before.get("content")
    if before.get("tool_calls"):
        return
    found = split_calls(said) if before.get("role") == "assistant" and isinstance(said, str) else None
    if found is None or not found[1]:
        if any(turn.get("tool_calls") for turn in turns):
            return
        raise Unusable(
            "turn", f"{key}: a tool's result, and no turn before it calls a tool; write the call under tool_calls"
        )
    words, made = found
    before["content"] = words or None
    before["tool_calls"] = [
        _openai({"name": call.name, "arguments": call.arguments}, {"function": {}}) for call in made
    ]


def split_answer(value: Json, key: str = "messages") -> tuple[list[Json], JsonObject, str]:
    """Messages whose last turn is the answer: the turns before it, that turn, its key.

    Raises:
        Unusable: the last turn is not the assistant's, follows another of the assistant's, or is not to be learnt.
    """
    turns = as_list(decoded(value, key), key)
    at = len(turns) - 1
    last = _last(turns, at, key)
    if last.get("role") != "assistant":
        raise Unusable("no_answer", f"key '{key}': the last message must be the assistant's, it is the answer")
    if _last(turns, at - 1, key).get("role") == "assistant":
        raise Unusable(
            "two_answers",
            f"{key}[{at - 1}] and {key}[{at}] are two assistant turns in a row; end the row at the one that is"
            " the answer",
        )
    weight = last.get("weight")
    if weight is not None and not weight:
        raise Unusable(
            "weight",
            f"{key}[{at}].weight is 0: this turn is not to be learnt; end the row at the turn that is the answer",
        )
    return turns[:-1], last, f"{key}[{at}]"


def _last(turns: list[Json], at: int, key: str) -> JsonObject:
    """What a turn ends with; {} where there is none."""
    given = turns[at] if at >= 0 else None
    return list(plain(given, f"{key}[{at}]"))[-1] if isinstance(given, dict) else {}


def _turn(turn: JsonObject, key: str) -> JsonObject:
    role = turn.get("role")
    if role not in ROLES:
        raise Unusable("role", f"{key}.role: {role!r} is none of {', '.join(ROLES)}")
    made: JsonObject = {"role": role, "content": _content(turn.get("content"), key, role == "assistant")}
    for name in ("tool_call_id", "name"):
        given = _identity(turn.get(name)) if name == "tool_call_id" else turn.get(name)
        if given is not None:
            if not isinstance(given, str):
                raise Unusable("turn", f"{key}.{name}: expected text, found {type(given).__name__}")
            made[name] = given
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
    own = _identity(given.get("id"))
    identity: JsonObject = {"id": own} if isinstance(own, str) else {}
    return {**identity, "type": "function", "function": {"name": call["name"], "arguments": arguments}}


def _identity(value: Json) -> Json:
    """The id of a call as text: some number their calls."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def text(content: list[Json], key: str) -> str:
    """The text of a content in parts.

    Raises:
        Unusable: a part is no text.
    """
    return "".join(_text_of(part, f"{key}.content[{index}]") for index, part in enumerate(content))


def _content(content: Json, key: str, may_be_missing: bool) -> str | None:
    if isinstance(content, list):
        return text(content, key)
    if isinstance(content, str) or (content is None and may_be_missing):
        return content
    raise Unusable("content", f"{key}.content: expected text, found {type(content).__name__}")


def _text_of(part: Json, key: str) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        raise Unusable("content", f"{key} is of type {kind}; only parts of type text are read")
    return text
