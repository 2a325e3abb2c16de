"""Replies that are paid for already: those of a log whose request is a row's own, for the journal of the teacher."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path

from fledgling import strict_json
from fledgling.artefacts import Json, JsonObject
from fledgling.data import definitions, turns
from fledgling.data.invalid import Unusable
from fledgling.data.sources import Part
from fledgling.data.traces import logs
from fledgling.data.traces.chat import require_success
from fledgling.data.traces.record import Record, number
from fledgling.data.values import decoded
from fledgling.files import canonical
from fledgling.journal import Journal
from fledgling.records import Example
from fledgling.teacher.requests import Endpoint, Request, Teacher, request
from fledgling.tokens import text_tokens

TOGETHER = 500  # replies that are written at once


@dataclass(slots=True)
class Taken:
    """What became of the calls of the logs: replies that were taken over, and why others were not."""

    rows: int = 0
    known: int = 0
    taken: int = 0
    calls: int = 0
    left: dict[str, int] = field(default_factory=dict)


def take_over(
    examples: Iterable[Example],
    parts: Iterable[Part],
    journal: Path,
    *,
    teacher: Teacher,
    endpoint: Endpoint,
    prompt: Mapping[str, object],
    model: str | None = None,
    any_temperature: bool = False,
) -> Taken:
    """Keep the first good reply to each row's own request as one of the teacher's, marked with where it comes from.

    A call answers a row's request where messages, tools, schema and temperature are the same (a seed is a hint and does not count); `model` is a glob for
    who answered, without it the teacher's own model and its dated versions. A temperature other than 0, or an unknown one, counts only with `any_temperature`.
    """
    wanted: dict[str, list[Request]] = {}
    found = Taken()
    for example in examples:
        call = request(example, teacher, endpoint, prompt)
        found.rows += 1
        wanted.setdefault(_asked(call.body), []).append(call)
    with Journal(journal, "teacher") as kept:
        found.known = sum(call.key in kept for calls in wanted.values() for call in calls)
        waiting: list[tuple[str, Mapping[str, object]]] = []
        models = (model,) if model else _versions(teacher.model or endpoint.deployment)
        for call, record in _matches(parts, wanted, found, teacher, models, any_temperature):
            if call.key not in kept and all(call.key != key for key, _ in waiting):
                waiting.append((call.key, record))
                found.taken += 1
            if len(waiting) >= TOGETHER:
                kept.put_many(waiting)
                waiting = []
        kept.put_many(waiting)
    return found


def _matches(
    parts: Iterable[Part],
    wanted: Mapping[str, list[Request]],
    found: Taken,
    teacher: Teacher,
    models: tuple[str, ...],
    any_temperature: bool,
) -> Iterator[tuple[Request, Mapping[str, object]]]:
    for part in parts:
        for line, raw in logs.calls(part.rows(), named=True, turns="reply"):
            found.calls += 1
            try:
                if isinstance(raw, Unusable):
                    raise raw
                if not isinstance(raw, Record):
                    raise Unusable("no call of a model", "")
                reply = require_success(raw)
                _require_same(raw, reply, teacher, models, any_temperature)
                calls = wanted.get(_logged(raw))
                if calls is None:
                    raise Unusable("another request", "")
            except Unusable as problem:
                found.left[problem.code] = found.left.get(problem.code, 0) + 1
                continue
            for call in calls:
                yield call, _kept(raw, reply, part.place(line))


def _versions(name: str) -> tuple[str, ...]:
    """Globs of a model and its versions by date, as providers name them: gpt-4o is not gpt-4o-mini."""
    year, two = "20[0-9][0-9]", "[0-9][0-9]"
    dates = (f"{year}-{two}-{two}", f"{year}{two}{two}", f"{two}{two}")
    return (escape(name), *(f"{escape(name)}-{date}" for date in dates))


def _require_same(
    record: Record, reply: JsonObject, teacher: Teacher, models: tuple[str, ...], any_temperature: bool
) -> None:
    """Refuse a call that was made in another way than the teacher's are."""
    if not any(fnmatchcase(record.model or "", model) for model in models):
        raise Unusable("another model", "")
    if not any_temperature and (record.temperature != 0 or teacher.temperature not in (0, None)):
        raise Unusable("temperature not 0", "")
    if any_temperature and record.temperature is not None and record.temperature != number(teacher.temperature):
        raise Unusable("another temperature", "")
    tokens = record.usage.get("completion_tokens", text_tokens(strict_json.dumps(reply)))
    if tokens > teacher.max_tokens:
        raise Unusable("longer than teacher.max_tokens", "")


def _asked(body: Mapping[str, Json]) -> str:
    """What decides a reply, of a request's body."""
    return canonical([body["messages"], body.get("tools") or None, _form(body.get("response_format"))])


def _logged(record: Record) -> str:
    """The same of a logged call; messages and tools in the form that rows have.

    Raises:
        Unusable: it is no request that a row could be.
    """
    schema = decoded(record.schema, "schema")
    if (
        isinstance(schema, dict)
        and "type" in schema
        and schema.get("type") not in ("json_schema", "json_object", "text")
    ):
        schema = {"type": "json_schema", "json_schema": {"schema": schema}}
    return canonical([turns.messages(record.messages), definitions.tools(record.tools) or None, _form(schema)])


def _form(response_format: Json) -> Json:
    """How an answer's form is asked for: json_object, or a schema and whether it is enforced; None for neither."""
    if not isinstance(response_format, dict) or response_format.get("type") in (None, "text"):
        return None
    inside = response_format.get("json_schema")
    if not isinstance(inside, dict):
        return response_format.get("type")
    schema = inside.get("schema")
    return [definitions.schema(schema) if isinstance(schema, dict) else schema, bool(inside.get("strict"))]


def _kept(record: Record, reply: JsonObject, place: str) -> Mapping[str, object]:
    """The journal's record of a reply, marked as one of a log."""
    choice: JsonObject = {"index": 0, "message": reply, "finish_reason": record.finish or "stop"}
    body = {"object": "chat.completion", "model": record.model, "choices": [choice], "usage": dict(record.usage)}
    logged = {"log": record.log, "place": place, "time": record.time, "temperature": record.temperature}
    return {"status": 200, "body": strict_json.dumps(body), "latency_s": None, "run": "of a log", "logged": logged}
