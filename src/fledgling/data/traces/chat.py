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
_CUT = ('{"', '[{"', '["', "[{'")  # how JSON begins that is text only because its end is missing
_MESSAGE = frozenset(("content", "tool_calls", "function_call", "refusal"))
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

    Raises:
        Unusable: there is none.
    """
    found = value_of(value, key)
    if isinstance(found, dict):
        if isinstance(found.get("messages"), list):
            return found
        if isinstance(found.get("role"), str):
            return {"messages": [found]}
        said = next((found[name] for name in ("input", "prompt") if found.get(name)), None)
        if said is not None:
            return {**found, "messages": request_of(said, f"{key}.input")["messages"]}
    elif isinstance(found, list) and found:
        return {"messages": found}
    elif isinstance(found, str) and found:
        return {"messages": [{"role": "user", "content": found}]}
    raise Unusable("body_absent", f"{key}: the log has no request here (not captured, offloaded or truncated)")


def reply_of(value: Json, key: str) -> JsonObject:
    """A choice ({"message", "finish_reason"}), from a completion's body, a choice, a message, or the text of one.

    An object that is none of these is the JSON that the model answered, with its text as it was.

    Raises:
        Unusable: there is none.
    """
    found = value_of(value, key)
    if isinstance(found, list) and found and all(isinstance(item, dict) for item in found):
        found = found[-1] if isinstance(found[-1], dict) and found[-1].get("role") else found
    if isinstance(found, dict):
        choices = found.get("choices")
        if isinstance(choices, list) and choices:
            return one_choice([as_object(choice, f"{key}.choices[{at}]") for at, choice in enumerate(choices)])
        if isinstance(found.get("message"), dict) and not isinstance(found.get("role"), str):
            return found
        if _SPEAKERS.get(str(found.get("role")), found.get("role")) == "assistant" and _MESSAGE & found.keys():
            return {"message": found, "finish_reason": found.get("finish_reason")}
        if "error" in found and len(found) <= 2:
            raise Unusable("reply_error", f"{key}: the call failed ({str(found['error'])[:200]})")
    if found is None or found == "":
        raise Unusable("body_absent", f"{key}: the log has no reply here (not captured, offloaded or truncated)")
    if isinstance(found, str):
        return {"message": {"role": "assistant", "content": found}}
    content = value if isinstance(value, str) else strict_json.dumps(found)
    return {"message": {"role": "assistant", "content": content}}


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
    return "tool_calls" if said in ("tool_call", "tool-calls") else said


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


def _said(why: str | None) -> str:
    return f" ({why[:200]})" if why else ""
