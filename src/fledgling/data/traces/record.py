"""One logged call of a hosted model, in the same terms whatever logged it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fledgling.artefacts import Json, JsonObject
from fledgling.data.invalid import Unusable


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One call: what was asked, what came back, and what the log knows beside it.

    `messages` are the turns before the reply and `later` those after it, in OpenAI's form; `schema` is a JSON Schema or
    a `response_format`. `model` is what says to have answered, else what was asked. `time` is in seconds of UTC,
    `feedback` holds scores by name. `finish`, `status` (HTTP) and `error` say how the call ended, `usage` counts its
    prompt_tokens and completion_tokens where the log does.
    """

    log: str
    messages: Json
    reply: JsonObject | None
    tools: Json = None
    schema: Json = None
    model: str | None = None
    time: float | None = None
    session: str | None = None
    trace: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    feedback: Mapping[str, float] = field(default_factory=dict)
    parameters: JsonObject = field(default_factory=dict)
    usage: Mapping[str, int] = field(default_factory=dict)
    finish: str | None = None
    status: int | None = None
    error: str | None = None
    id: str | None = None
    later: tuple[Json, ...] = ()

    @property
    def record(self) -> str | None:
        """What the call belongs to: its session or conversation, else its trace."""
        return self.session or self.trace

    @property
    def temperature(self) -> float | None:
        """Temperature of the call; None where the log does not say."""
        return number(self.parameters.get("temperature"))


def text(value: object) -> str | None:
    """A text or a whole number as text; None for everything else, and for "" and null."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value or None if isinstance(value, str) else None


def first(row: Mapping[str, Json], *keys: str) -> Json:
    """The value of the first key that has one."""
    return next((row[key] for key in keys if row.get(key) is not None), None)


def number(value: object) -> float | None:
    """A finite number, also as text or as true and false; else None."""
    try:
        found = float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None
    return found if found is not None and abs(found) < float("inf") else None


def usage(value: Json) -> dict[str, int]:
    """Tokens of a call, under any of the names that they have in logs."""
    given = value if isinstance(value, dict) else {}
    found = {
        "prompt_tokens": first(given, "prompt_tokens", "input_tokens", "input"),
        "completion_tokens": first(given, "completion_tokens", "output_tokens", "output"),
    }
    return {name: count for name, count in found.items() if isinstance(count, int) and not isinstance(count, bool)}


def texts(value: object) -> tuple[str, ...]:
    """The texts of a list; one text alone is a list of itself."""
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def moment(value: Json, key: str) -> float | None:
    """Seconds of UTC: from a number of seconds, milli-, micro- or nanoseconds, or from ISO 8601 (without a zone: UTC).

    Raises:
        Unusable: it is none of these.
    """
    if value is None or value == "":
        return None
    found = number(value)
    if found is not None and found > 0 and not isinstance(value, bool):
        for limit in (1e17, 1e14, 1e11):  # in seconds these are years after 5000
            if found > limit:
                found /= {1e17: 1e9, 1e14: 1e6, 1e11: 1e3}[limit]
                break
    else:
        try:
            read = datetime.fromisoformat(value) if isinstance(value, str) else None
            found = None if read is None else (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            found = None
    if found is None or not 0 <= found < _NO_YEAR:
        raise Unusable("time", f"key '{key}': {str(value)[:60]!r} is no time; write ISO 8601 or seconds since 1970")
    return found


_NO_YEAR = 253_402_300_800  # seconds at which the year 10000 begins
