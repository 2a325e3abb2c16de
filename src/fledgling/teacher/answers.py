"""What a finished reply says, whatever its provider makes of the protocol. Pure functions of what is kept."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fledgling.files import Object
from fledgling.records import Outcome, Prediction
from fledgling.teacher import streamed
from fledgling.teacher.refusals import refusal

# Reasons to end a reply, in the words of those who serve. None and "" come from servers that never say.
FINISHED = frozenset(
    [
        "stop",
        "tool_calls",
        "tool_use",
        "function_call",
        "eos",
        "eos_token",
        "end_turn",
        "stop_sequence",
        "end",
        "complete",
        "completed",
    ]
)
CUT_OFF = frozenset(("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"))
FILTERED = frozenset(
    ("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii", "sensitive", "guardrail")
)
REFUSED = frozenset(("refusal",))
BROKEN_OFF = frozenset(
    (
        "error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "network_error",
        "insufficient_system_resource",
        "malformed_function_call",
    )
)
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # fields that hold thoughts beside the answer
PARTS_OF_TEXT = ("text", "output_text")
# Parts of a content that are calls, by their type (Anthropic, OpenAI's Responses) or their key (Bedrock, Gemini).
PARTS_OF_CALLS = ("tool_use", "function_call", "tool_call", "toolUse", "functionCall")
ARGUMENTS = ("arguments", "input", "args", "parameters")  # of a call, by whoever serves it; the first is the protocol's
MOST_CALLS = 1_000  # of one reply that reach the prediction; no row asks for more
MOST_TOKENS = re.compile(r"([0-9]{1,9})(?:\.0+)?")  # a count of tokens that can be one


class Digits(str):
    """A number of a reply as it was written, of any size."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a finished reply says; the fields of a Prediction that do not name its row.

    `reason` says why the outcome is not ok, in the provider's words where there are any; outcome error is no answer.
    """

    outcome: Outcome
    raw: str | None = None
    tool_calls: list[Object] | None = None
    finish_reason: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    model: str | None = None
    fingerprint: str | None = None
    reason: str | None = None


def read(status: int, text: str) -> Answer | None:
    """What a finished reply says, or None where it is no finished reply."""
    if not 200 <= status < 300:
        return _read_refusal(status, text)
    try:
        return _read(_body(text))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def prediction(row: str, key: str, record: Mapping[str, Any]) -> Prediction:
    """The prediction of a row from the record that the journal keeps under its key."""
    answer = read(record["status"], record["body"]) or Answer("error", reason="the kept reply cannot be read")
    return Prediction(
        id=row,
        outcome=answer.outcome,
        raw=answer.raw,
        tool_calls=answer.tool_calls,
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        latency_s=record["latency_s"],
        model=answer.model,
        fingerprint=answer.fingerprint,
        request=key,
        reason=answer.reason,
        in_flight=record.get("in_flight"),
    )


def usage_of(text: str | None) -> dict[str, int]:
    """The tokens that a reply says it took, also where the rest of it cannot be read."""
    try:
        body = _body(text or "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return _usage(body) if isinstance(body, dict) else {}


def _body(text: str) -> Any:
    """The JSON of a reply, its numbers as they were written."""
    return streamed.whole(text, _json) if streamed.is_stream(text) else _json(text)


def _json(text: str) -> Any:
    return json.loads(text, parse_float=Digits, parse_int=Digits, parse_constant=Digits)


def _read(body: Object) -> Answer | None:
    choice = one_choice(body["choices"])
    finish = _text(choice.get("finish_reason"))
    ending = (finish or "").lower().rpartition(".")[2]  # some write FinishReason.STOP
    cut = ending in CUT_OFF | FILTERED | REFUSED  # then there may be nothing else
    message = (choice.get("message") or {}) if cut else choice["message"]
    content, refused = _content(message.get("content"))
    calls = _calls(message)
    outcome, reason = _outcome(ending, content, calls, message)
    if outcome in ("ok", "empty") and (broken := choice.get("error") or body.get("error")):
        outcome, reason = "error", f"the endpoint broke the reply off ({refusal(json.dumps({'error': broken})).words})"
    if refused or message.get("refusal"):
        if outcome in ("ok", "empty"):
            outcome, reason = "refusal", None
        content = content or refused or str(message["refusal"])
    if calls and len(calls) > MOST_CALLS:
        reason = f"{len(calls):,} calls in one reply; the first {MOST_CALLS:,} are kept here, the journal has them all"
        calls = calls[:MOST_CALLS]
    return Answer(
        outcome,
        content,
        [_call(call) for call in calls] if calls else None,
        finish,
        _usage(body, said=bool(content or calls)),
        _text(body.get("model")),
        _text(body.get("system_fingerprint")),
        reason,
    )


def one_choice(choices: list[Object]) -> Object:
    """The one choice that was asked for. Of several, the others have what the first lacks: text in one, calls in the next.

    Raises:
        LookupError, TypeError, AttributeError: there is none.
    """
    if len(choices) == 1:
        return choices[0]
    first, *others = sorted(choices, key=_index)
    message = dict(first.get("message") or {})
    for other in others:
        for name, value in (other.get("message") or {}).items():
            message[name] = message.get(name) or value
    return {**first, "message": message} if message else first


def _index(choice: Object) -> int:
    index = MOST_TOKENS.fullmatch(str(choice.get("index", "")))
    return int(index[1]) if index else 0


def _outcome(
    finish: str, content: str | None, calls: list[Object] | None, message: Mapping[str, Any]
) -> tuple[Outcome, str | None]:
    if finish in CUT_OFF:
        return "length", None
    if finish in FILTERED:
        return "content_filter", None
    if finish in REFUSED:
        return "refusal", None
    if finish in BROKEN_OFF:
        return "error", f"the endpoint broke the reply off (finish_reason {finish})"
    if finish and finish not in FINISHED:
        return "error", f"finish_reason {finish!r} is not known"
    if calls or (content or "").strip():
        return "ok", None
    if finish in ("tool_calls", "function_call", "tool_use"):
        return "empty", f"the endpoint says finish_reason {finish} and gives no call; see its parser of tool calls"
    elsewhere = next((f"in message.{name}" for name in THOUGHTS if message.get(name)), None)
    parts = message.get("content")
    if elsewhere is None and isinstance(parts, list) and parts:
        kinds = {str(part.get("type", "unknown")) for part in parts if isinstance(part, dict)}
        elsewhere = f"parts of type {', '.join(sorted(kinds))}"
    return "empty", f"all that came is {elsewhere}" if elsewhere else None


def _content(value: object) -> tuple[str | None, str]:
    """Text of a message's content, and of a refusal in it; content is text, a list of parts, or the object that it means.

    Raises:
        TypeError: it is none of these.
    """
    if value is None or (isinstance(value, str) and not isinstance(value, Digits)):
        return value, ""
    if isinstance(value, dict) and not (value.get("type") in PARTS_OF_TEXT and "text" in value):
        return written(value), ""
    if not isinstance(value, list | dict):
        raise TypeError
    texts, refusals = [], []
    for part in value if isinstance(value, list) else [value]:
        kind = part if isinstance(part, str) else part.get("type", "text")
        if isinstance(part, str):
            texts.append(part)
        elif kind == "refusal":
            refusals.append(str(part.get("refusal", "")))
        elif kind in PARTS_OF_TEXT:
            inner = part.get("text", "")
            texts.append(str(inner.get("value", "")) if isinstance(inner, dict) else str(inner))
    return "".join(texts), "".join(refusals)


def _calls(message: Mapping[str, Any]) -> list[Object] | None:
    """The calls of a message: in today's form, in the one before (`function_call`), or among the parts of its content.

    One alone may be no list.

    Raises:
        TypeError: they are no list of objects.
    """
    calls = message.get("tool_calls") or None
    if isinstance(calls, str) and not isinstance(calls, Digits):
        calls = _json(calls) or None
    if isinstance(calls, dict) and ("function" in calls or "name" in calls):
        calls = [calls]
    if calls is None and (before := message.get("function_call")):
        as_text = isinstance(before, str) and not isinstance(before, Digits)
        calls = [{"type": "function", "function": _json(before) if as_text else before}]
    if calls is None and isinstance(parts := message.get("content"), list):
        calls = [call for part in parts if isinstance(part, dict) and (call := _called(part))] or None
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        raise TypeError
    return calls


def _called(part: Object) -> Object | None:
    """The call that a part of a content is; None where it is none."""
    inside = next((part[name] for name in PARTS_OF_CALLS if isinstance(part.get(name), dict)), None)
    if inside is None and part.get("type") not in PARTS_OF_CALLS:
        return None
    call = part if inside is None else inside
    identity = next((call[name] for name in ("call_id", "id", "toolUseId") if call.get(name)), None)
    function = call["function"] if isinstance(call.get("function"), dict) else call
    named = {name: value for name, value in function.items() if name in ("name", *ARGUMENTS)}
    return ({"id": identity} if identity else {}) | {"type": "function", "function": named}


def _call(call: Object) -> Object:
    """A call as it came, but arguments are text, as the protocol has them, and numbers can be written again."""
    if "function" not in call and "name" in call:  # the protocol's wrapper is missing
        inner = {key: value for key, value in call.items() if key in ("name", *ARGUMENTS)}
        call = {key: value for key, value in call.items() if key not in inner} | {"function": inner}
    function = call.get("function")
    if isinstance(function, dict) and "arguments" not in function:
        other = next((name for name in ARGUMENTS if name in function), None)
        function = {"arguments" if name == other else name: value for name, value in function.items()}
    rest = {key: plain(value) for key, value in call.items() if key != "function"}
    if "function" not in call:
        return rest
    if not isinstance(function, dict):
        return rest | {"function": plain(function)}
    named = {key: plain(value) for key, value in function.items() if key != "arguments"}
    if "arguments" in function:
        arguments = function["arguments"]
        as_text = isinstance(arguments, str) and not isinstance(arguments, Digits)
        named["arguments"] = arguments if as_text else written(arguments)
    ordered = {key: named[key] for key in function}
    return {key: ordered if key == "function" else rest[key] for key in call}


def written(value: object) -> str:
    """The JSON text of a value of a reply, its numbers as they were written."""
    if isinstance(value, Digits):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return _quoted(value)


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def plain(value: object) -> object:
    """A value of a reply with numbers for its digits; a number that is none of JSON's stays text."""
    if isinstance(value, Digits):
        short = len(value) < 300
        if short and re.fullmatch(r"-?[0-9]+", value):
            return int(value)
        number = float(value) if short else float("inf")
        return number if abs(number) < float("inf") else str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def _read_refusal(status: int, text: str) -> Answer | None:
    """A 4xx that is about this one row: its outcome."""
    said = refusal(text)
    if said.generated is not None and status in (400, 422):
        outcome: Outcome = "ok" if said.generated.strip() else "empty"
        return Answer(outcome, said.generated, reason=said.words)
    if said.filters(status):
        return Answer("content_filter", finish_reason="content_filter", reason=said.words)
    if said.is_too_long(status):
        return Answer("length", reason=said.words)
    if said.is_about_the_row(status):
        return Answer("error", reason=said.words)
    return None


def _usage(body: Mapping[str, Any], *, said: bool = False) -> dict[str, int]:
    """The tokens that a body counts. No prompt has 0, and no reply that says something: such a count is none."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return {}
    found = {}
    for name, other in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        count = usage.get(name, usage.get(other))
        number = MOST_TOKENS.fullmatch(count) if isinstance(count, str) else None  # Digits, or a text of digits
        if number and (int(number[1]) or (name == "completion_tokens" and not said)):
            found[name] = int(number[1])
    return found


def _text(value: object) -> str | None:
    return value[:500] if isinstance(value, str) and not isinstance(value, Digits) else None
