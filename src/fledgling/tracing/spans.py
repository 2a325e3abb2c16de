"""A line as a span in the words of OpenTelemetry's GenAI conventions, whoever receives it.

gen_ai.* attributes and the event gen_ai.evaluation.result: github.com/open-telemetry/semantic-conventions-genai (v0.1,
status Development). What they have no word for is named fledgling.*, and session.id, tag.tags, input.value,
output.value and openinference.span.kind as OpenInference and Langfuse name them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from fledgling.artefacts import Json, JsonObject
from fledgling.tracing.records import Answer, Context, Event, Score

Value = str | bool | int | float | Sequence[str]
Attributes = dict[str, Value]
# A message's finish_reason has these values; a provider's own word stays in gen_ai.response.finish_reasons.
FINISHED = {"tool_calls": "tool_call", "function_call": "tool_call"}
OUTCOMES = {"length": "length", "content_filter": "content_filter", "ok": "stop"}


@dataclass(frozen=True)
class SpanEvent:
    """Something within a span."""

    name: str
    attributes: Attributes
    at: int


@dataclass(frozen=True)
class Span:
    """One span; times in nanoseconds since 1970, ids in hex. `error` is why it failed."""

    trace: str
    id: str
    name: str
    start: int
    end: int
    calls: bool
    """Whether it is a request to somebody else (kind CLIENT)."""
    attributes: Attributes
    events: list[SpanEvent] = field(default_factory=list)
    error: str | None = None


def span_of(context: Context, line: Answer | Event) -> Span:
    """The span of a line."""
    return _of_answer(context, line) if line["kind"] == "answer" else _of_event(context, line)


def _of_answer(context: Context, line: Answer) -> Span:
    reply, usage, asked = line["reply"], line["usage"], line["input"]
    finish = reply.get("finish_reason")
    attributes: Attributes = {
        **_shared(context),
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": line["provider"],
        "gen_ai.input.messages": _json([_message(one) for one in _objects(asked.get("messages"))]),
        "gen_ai.output.messages": _json([_answer_message(line)]),
        "fledgling.row": line["row"],
        "fledgling.outcome": line["outcome"],
        "fledgling.expected": _json(line["expected"]),
    }
    if line["model"]:
        attributes |= {"gen_ai.request.model": line["model"], "gen_ai.response.model": line["model"]}
    if isinstance(finish, str):
        attributes["gen_ai.response.finish_reasons"] = [finish]
    for key, name in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        if isinstance(tokens := usage.get(key), int):
            attributes[f"gen_ai.usage.{name}"] = tokens
    if asked.get("tools"):
        attributes["gen_ai.tool.definitions"] = _json([_tool(one) for one in _objects(asked["tools"])])
    if "schema" in asked:
        attributes |= {"gen_ai.output.type": "json", "fledgling.schema": _json(asked["schema"])}
    attributes |= {f"fledgling.{key}": _plain(value) for key, value in line["metadata"].items() if value is not None}
    failed = line["outcome"] != "ok"
    if failed:
        attributes["error.type"] = line["outcome"]
    start = context["at"] - round((line["seconds"] or 0) * 1e9)
    return Span(
        line["trace"],
        line["span"],
        f"chat {line['model'] or line['provider']}",
        start,
        context["at"],
        True,
        attributes | _scores(line["scores"]),
        [_evaluated(one, context["at"]) for one in line["scores"]],
        line["reason"] or line["outcome"] if failed else None,
    )


def _of_event(context: Context, line: Event) -> Span:
    end = context["at"]
    start = end - round(line["seconds"] * 1e9)
    attributes: Attributes = {
        **_shared(context),
        "openinference.span.kind": "CHAIN" if line["steps"] else "EVALUATOR",
        "input.value": _json(line["input"]),
        "input.mime_type": "application/json",
        "output.value": _json(line["output"]),
        "output.mime_type": "application/json",
        **{f"fledgling.{key}": _plain(value) for key, value in line.get("metadata", {}).items() if value is not None},
    }
    steps = [
        SpanEvent(
            "fledgling.training.step",
            {f"fledgling.training.{key}": _plain(value) for key, value in step.items() if value is not None},
            min(start + round(_number(step.get("seconds")) * 1e9), end),
        )
        for step in line["steps"]
    ]
    scores = line["scores"]
    events = [*steps, *(_evaluated(one, end) for one in scores)]
    return Span(line["trace"], line["span"], line["name"], start, end, False, attributes | _scores(scores), events)


def _shared(context: Context) -> Attributes:
    found: Attributes = {
        "session.id": context["session"],
        "tag.tags": context["tags"],
        "fledgling.track": context["track"],
    }
    if context["dataset"]:
        found["fledgling.dataset"] = context["dataset"]["name"]
    if context["run"]:
        found |= {"fledgling.run": context["run"]["name"], "fledgling.contender": context["run"]["contender"]}
    if context["commit"]:
        found["fledgling.commit"] = context["commit"]
    return found


def _scores(scores: list[Score]) -> Attributes:
    """Scores as attributes, by which back-ends filter; those about runs stay events, for names would meet."""
    return {f"fledgling.score.{one['name']}": one["value"] for one in scores if one["run"] is None}


def _evaluated(one: Score, at: int) -> SpanEvent:
    attributes: Attributes = {"gen_ai.evaluation.name": one["name"]}
    if isinstance(one["value"], str):
        attributes["gen_ai.evaluation.score.label"] = one["value"]
    else:
        attributes["gen_ai.evaluation.score.value"] = float(one["value"])
    if one["comment"]:
        attributes["gen_ai.evaluation.explanation"] = one["comment"]
    if one["run"]:
        attributes["fledgling.run"] = one["run"]
    return SpanEvent("gen_ai.evaluation.result", attributes, at)


def _message(message: JsonObject) -> JsonObject:
    """A turn in OpenAI's form as one of OpenTelemetry's."""
    role = str(message.get("role", "user"))
    if role == "tool":
        told = {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": message.get("content")}
        return {"role": role, "parts": [told]}
    return {"role": role, "parts": [*_texts(message.get("content")), *map(_call, _objects(message.get("tool_calls")))]}


def _answer_message(line: Answer) -> JsonObject:
    reply = line["reply"]
    finish = reply.get("finish_reason")
    reason = FINISHED.get(finish, finish) if isinstance(finish, str) else OUTCOMES.get(line["outcome"], "error")
    said = _message({"role": "assistant", "content": reply.get("content"), "tool_calls": reply.get("tool_calls")})
    return {**said, "finish_reason": reason}


def _texts(content: Json) -> list[Json]:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    if isinstance(content, list):
        return [_part(part) for part in content]
    return [{"type": "text", "content": _json(content)}]


def _part(part: Json) -> Json:
    """A part of a turn: text, or another kind (an image, say) as it came."""
    if isinstance(part, dict) and not isinstance(part.get("text"), str):
        return {"type": str(part.get("type", "unknown")), **part}
    return {"type": "text", "content": part["text"] if isinstance(part, dict) else part}


def _call(call: JsonObject) -> Json:
    named = call.get("function")
    function = named if isinstance(named, dict) else call
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            pass  # as it came: what a model wrote need not be JSON
    return {"type": "tool_call", "id": call.get("id"), "name": function.get("name"), "arguments": arguments}


def _tool(tool: JsonObject) -> JsonObject:
    named = tool.get("function")
    function = named if isinstance(named, dict) else tool
    return {
        "type": "function",
        **{key: function[key] for key in ("name", "description", "parameters") if key in function},
    }


def _objects(value: Json) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _plain(value: Json) -> Value:
    return value if isinstance(value, str | bool | int | float) else _json(value)


def _number(value: Json) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
