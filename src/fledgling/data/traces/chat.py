"""Requests and replies in the shapes in which logs keep them, as turns of OpenAI's form."""

from typing import cast

from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject
from fledgling.data.invalid import Unusable
from fledgling.data.traces.record import Record, text
from fledgling.data.values import as_list, as_object
from fledgling.teacher.answers import one_choice
from fledgling.teacher.answers import read as read_reply
from fledgling.tracks.attempts import CALLED
from fledgling.tracks.dialects import parse_calls

_THOUGHTS = frozenset(("reasoning", "thinking", "redacted_thinking"))
_TEXTS = frozenset(("text", "input_text", "output_text"))
_SPEAKERS = {"human": "user", "ai": "assistant", "model": "assistant"}
_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function", *_SPEAKERS))
# Why a reply ended, in words of other APIs.
_ENDED = {
    "tool_call": "tool_calls",
    "tool-calls": "tool_calls",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "refusal": "content_filter",
}
_CUT = ('{"', '[{"', '["', "[{'")  # how JSON begins that is text only because its end is missing
_MESSAGE = frozenset(("content", "tool_calls", "function_call", "refusal"))
_CHOICE = frozenset(("message", "finish_reason", "index", "logprobs"))
FAILED = {
    "length": "the reply was cut off",
    "content_filter": "the reply was filtered",
    "refusal": "the model refused",
    "empty": "the reply is empty",
    "error": "the call failed",
}


def value_of(value: Json, key: str) -> Json:
    """A value that a log may keep as JSON text; other text stays text.

    Raises:
        Unusable: JSON text whose end is missing.
    """
    if not isinstance(value, str):
        return value
    begins = value.lstrip()[:2]
    if begins[:1] not in ("{", "[", '"'):
        return value
    try:
        return cast(Json, strict_json.loads(value.strip()))
    except ValueError as error:
        if value.lstrip().startswith(_CUT):
            raise Unusable("body_truncated", f"{key}: JSON that is cut off or damaged ({error})") from None
        return value


def object_of(value: Json, key: str) -> JsonObject:
    """An object, or {} where there is none; as JSON text or as it is."""
    found = value_of(value, key)
    return found if isinstance(found, dict) else {}


def request_of(value: Json, key: str) -> JsonObject:
    """A request as the API has it ({"messages", "tools", …}), from an object, a list of messages, or a prompt's text.

    What Anthropic's API has beside the messages, and OpenAI's Responses API beside its input, is their first turn.

    Raises:
        Unusable: there is none.
    """
    found = value_of(value, key)
    if isinstance(found, dict):
        if isinstance(found.get("messages"), list):
            return {**found, "messages": [*_instructions(found, key), *as_list(found["messages"], key)]}
        if isinstance(found.get("role"), str):
            return {"messages": [found]}
        said = next((found[name] for name in ("input", "prompt") if found.get(name)), None)
        if said is not None:
            asked = as_list(request_of(said, f"{key}.input")["messages"], f"{key}.input")
            return {**found, "messages": [*_instructions(found, key), *asked]}
    elif isinstance(found, list) and found:
        return {"messages": found}
    elif isinstance(found, str) and found:
        return {"messages": [{"role": "user", "content": found}]}
    raise Unusable("body_absent", f"{key}: the log has no request here (not captured, offloaded or truncated)")


def _instructions(request: JsonObject, key: str) -> list[Json]:
    """The turn of the system that a request has beside its messages."""
    turns: list[Json] = []
    for name in ("system", "instructions"):
        given = request.get(name)
        if given is None or given in ("", []):
            continue
        if not isinstance(given, str | list):
            raise Unusable("content", f"{key}.{name}: expected a text or a list of parts")
        turns.append({"role": "system", "content": given})
    return turns


def reply_of(value: Json, key: str) -> JsonObject:
    """A choice ({"message", "finish_reason"}), from a completion's body, a choice, a message, or the text of one.

    An object that is none of these is the JSON that the model answered, with its text as it was.

    Raises:
        Unusable: there is none, or it is a body of another API.
    """
    found = value_of(value, key)
    if isinstance(found, list) and found and all(_is_turn(item) for item in found) and _is_reply(found[-1]):
        found = found[-1]
    if isinstance(found, dict):
        choices = found.get("choices")
        if isinstance(choices, list) and choices and (_is_completion(found) or all(map(_is_choice, choices))):
            return one_choice([as_object(choice, f"{key}.choices[{at}]") for at, choice in enumerate(choices)])
        if not isinstance(found.get("role"), str) and _is_choice(found):
            return found
        if _is_reply(found):
            return {"message": found, "finish_reason": found.get("finish_reason") or found.get("stop_reason")}
        if _is_error(found):
            raise Unusable("reply_error", f"{key}: the call failed ({str(found['error'])[:200]})")
        if (found.get("object"), type(found.get("output"))) == ("response", list):
            raise Unusable("reply_unreadable", f"{key}: a body of OpenAI's Responses API, whose replies are not read")
        if is_listing(found) or _is_completion(found):
            raise Unusable("reply_unreadable", f"{key}: a body of {found.get('object')!r}, which holds no reply")
    if found is None or found == "":
        raise Unusable("body_absent", f"{key}: the log has no reply here (not captured, offloaded or truncated)")
    if isinstance(found, str):
        return {"message": {"role": "assistant", "content": found}}
    content = value if isinstance(value, str) else strict_json.dumps(found)
    return {"message": {"role": "assistant", "content": content}}


def is_listing(body: JsonObject) -> bool:
    """Whether a body is a list of other things than replies, as of embeddings."""
    return (body.get("object"), type(body.get("data"))) == ("list", list)


def _is_turn(item: Json) -> bool:
    return isinstance(item, dict) and item.get("role") in _ROLES


def _is_reply(item: Json) -> bool:
    """Whether it is an assistant's message."""
    if not isinstance(item, dict):
        return False
    return _SPEAKERS.get(str(item.get("role")), item.get("role")) == "assistant" and bool(_MESSAGE & item.keys())


def _is_choice(item: Json) -> bool:
    """Whether it holds a message as the API's choices do; what a model answered may have a `message` too."""
    message = item.get("message") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(message, dict):
        return False
    return _is_reply(message) or (item.keys() <= _CHOICE and bool(message) and message.keys() <= _MESSAGE | {"role"})


def _is_completion(body: JsonObject) -> bool:
    return body.get("object") in ("chat.completion", "text_completion", "chat.completion.chunk")


def _is_error(body: JsonObject) -> bool:
    """Whether it is how APIs say that a call failed; what a model answered may have an `error` too."""
    error = body.get("error")
    if not error or len(body) > 2:
        return False
    return len(body) == 1 or body.get("type") == "error" or (isinstance(error, dict) and "message" in error)


def turns_of(value: Json, key: str) -> list[Json]:
    """The messages of a request, each in OpenAI's form, without thoughts; arguments of calls as compact JSON text."""
    return [turn(item, f"{key}[{index}]") for index, item in enumerate(as_list(value, key))]


def turn(value: Json, key: str) -> JsonObject:
    """One message in OpenAI's form."""
    given = as_object(value, key)
    made = dict(given)
    role = given.get("role")
    if isinstance(role, str):
        made["role"] = _SPEAKERS.get(role, role)
    content = given.get("content")
    if isinstance(content, list):
        made["content"] = [_part(part) for part in content if not _is_thought(part)]
    calls = given.get("tool_calls")
    if isinstance(calls, list):
        made["tool_calls"] = [_call(call) for call in calls]
        if made.get("content") == "":
            made["content"] = None  # some clients write the one for the other beside calls
    return made


def _is_thought(part: Json) -> bool:
    return isinstance(part, dict) and part.get("type") in _THOUGHTS


def _part(part: Json) -> Json:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {**part, "type": "text"} if isinstance(part, dict) and part.get("type") in _TEXTS else part


def _call(call: Json) -> Json:
    """A call with its arguments as compact JSON text, whatever white space the log has."""
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        return call
    function = as_object(call["function"], "function")
    arguments = function.get("arguments")
    try:
        parsed = strict_json.loads(arguments) if isinstance(arguments, str) and arguments else arguments
        written: Json = strict_json.dumps(parsed) if isinstance(parsed, dict) else arguments
    except ValueError:
        written = arguments  # refused as a call, with its place
    return {**call, "function": {**function, "arguments": written}}


def call(name: Json, arguments: Json, identity: Json = None) -> JsonObject:
    """A call in OpenAI's form, of a name and arguments as an object or as text."""
    function: JsonObject = {"name": name, "arguments": {} if arguments is None else arguments}
    if not isinstance(function["arguments"], str):
        function["arguments"] = strict_json.dumps(function["arguments"])
    named: JsonObject = {"id": identity} if isinstance(identity, str) and identity else {}
    return {**named, "type": "function", "function": function}


def finish_of(choice: JsonObject, other: Json = None) -> str | None:
    """Why a reply ended, in OpenAI's words."""
    said = text(choice.get("finish_reason")) or text(other)
    return None if said is None else _ENDED.get(said, said)


def require_success(record: Record) -> JsonObject:
    """The reply of a call that came to its end.

    Raises:
        Unusable: it failed, was refused, filtered, cut off or is empty, or the log does not hold it or its calls; says
            which.
    """
    if record.status is not None and not 200 <= record.status < 300:
        raise Unusable("reply_status", f"the call ended with HTTP {record.status}{_said(record.error)}")
    if record.error is not None:
        raise Unusable("reply_error", f"the call failed{_said(record.error)}")
    if record.reply is None:
        raise Unusable("body_absent", "the log has no reply of this call (not captured, offloaded or truncated)")
    choice = {"message": record.reply, "finish_reason": record.finish}
    found = read_reply(200, strict_json.dumps({"choices": [choice]}))
    if found is None:
        raise Unusable("reply_unreadable", "the reply is no assistant's message")
    if found.outcome != "ok":
        more = found.reason or (f"finish_reason {record.finish}" if record.finish else "")
        raise Unusable(f"reply_{found.outcome}", f"{FAILED[found.outcome]}{_said(more)}")
    if found.finish_reason in CALLED and not found.tool_calls and not parse_calls(found.raw or ""):
        raise Unusable("reply_call_lost", f"finish_reason {found.finish_reason}, and the log holds no call")
    return record.reply


def ended_well(record: Record) -> bool:
    """Whether `require_success` finds nothing."""
    try:
        require_success(record)
    except Unusable:
        return False
    return True


def _said(why: str | None) -> str:
    return f" ({why[:200]})" if why else ""
