"""What is sent to the teacher for one row, and the key under which its reply is kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fledgling.errors import ConfigError
from fledgling.files import Object, digest
from fledgling.prompting.turns import messages, schema_place
from fledgling.records import Example
from fledgling.tracks.declared import described


@dataclass(frozen=True, slots=True)
class Teacher:
    """The `teacher` section of the configuration (config/schemas describes the keys)."""

    provider: Literal["azure", "openai", "simulated"]
    model: str | None = None
    base_url: str | None = None
    temperature: float | None = 0
    seed: int | None = None
    max_tokens: int = 512
    context_tokens: int | None = None
    max_tokens_key: str = "max_completion_tokens"
    response_format: Literal["json_schema", "json_object", "none"] = "json_schema"
    batch: bool = False
    allow_mixed_models: bool = False
    give_up: bool = False
    auth: Literal["key", "entra"] = "key"
    headers: Mapping[str, str] = field(default_factory=dict)
    first_replies: Literal["stop", "warn"] = "stop"
    timeout_s: float = 60
    max_tries: int = 6
    concurrency: int = 8
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget: Mapping[str, Any] = field(default_factory=dict)
    prices: Mapping[str, Any] | None = None
    simulated: Mapping[str, Any] = field(default_factory=dict)
    looks: int | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Teacher":
        """The section as a value.

        Raises:
            ConfigError: a key is unknown or `provider` is missing.
        """
        if unknown := settings.keys() - cls.__dataclass_fields__.keys():
            known = ", ".join(cls.__dataclass_fields__)
            raise ConfigError(f"teacher.{sorted(unknown)[0]}: unknown key; known here: {known}")
        if settings.get("provider") not in ("azure", "openai", "simulated"):
            raise ConfigError(f"teacher.provider: {settings.get('provider')!r} is none of azure, openai, simulated")
        return cls(**settings)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who answers: part of every key, so that another deployment's replies are never taken for this one's."""

    host: str
    deployment: str
    api_version: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One call: `body` is the JSON that is sent, `key` the sha256 of all that decides the reply."""

    key: str
    body: Object


def request(
    example: Example, teacher: Teacher, endpoint: Endpoint, prompt: Mapping[str, object], repeat: int = 0
) -> Request:
    """The call that asks one row; the row's id, group and place in the data have no part in it.

    `repeat` counts how often the same has been asked before: the body stays, the key is another.

    A simulated teacher answers from the row's gold, so there the gold is part of the key.
    """
    body = _body(example, teacher, endpoint, prompt)
    asked: Object = {
        "host": endpoint.host,
        "deployment": endpoint.deployment,
        "api_version": endpoint.api_version,
        "body": body,
    }
    if teacher.provider == "simulated":
        asked["simulated"] = {key: teacher.simulated.get(key, 0) for key in ("error_rate", "content_filter_rate")} | {
            "answer": example.answer
        }
    if repeat:
        asked["repeat"] = repeat
    return Request(digest(asked), body)


def with_ids(turns: list[Object]) -> list[Object]:
    """The turns of a conversation, every call with an id and every result with that of its call, as the protocol asks.

    A result without an id of a call goes to the call of the tool that it names, or to the first without a result. Ids that
    a row has stay. Rows of before 2023 (`function_call`) and of other tools have none.
    """
    made: list[Object] = []
    waiting: list[tuple[str, object]] = []  # ids and tools of calls without a result
    count = 0
    for turn in turns:
        if calls := turn.get("tool_calls"):
            named = []
            for call in calls:
                count += 1
                named.append(call if call.get("id") else {"id": f"call_{count}", **call})
            waiting = [(str(call["id"]), call.get("function", {}).get("name")) for call in named]
            turn = {**turn, "tool_calls": named}
        elif turn["role"] == "tool":
            known = [id for id, _ in waiting]
            if waiting and turn.get("tool_call_id") not in known:
                of_tool = [id for id, name in waiting if name == turn.get("name")]
                turn = {**turn, "tool_call_id": [*of_tool, *known][0]}
            waiting = [call for call in waiting if call[0] != turn.get("tool_call_id")]
        made.append(turn)
    return made


def _body(example: Example, teacher: Teacher, endpoint: Endpoint, prompt: Mapping[str, object]) -> Object:
    body: Object = {
        "model": teacher.model or endpoint.deployment,
        "messages": with_ids(messages(example, schema_place(prompt))),
    }
    if example.tools:
        body["tools"] = example.tools
    if example.schema is not None and teacher.response_format == "json_schema":
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": example.schema, "strict": False},
        }
    elif teacher.response_format == "json_object" and example.is_json and described(example.schema) == "object":
        body["response_format"] = {"type": "json_object"}
    if teacher.temperature is not None:
        body["temperature"] = teacher.temperature
    if teacher.seed is not None:
        body["seed"] = teacher.seed
    body[teacher.max_tokens_key] = teacher.max_tokens
    return body
