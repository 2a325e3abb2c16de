"""What a reply means: an answer, a final outcome of its row, a reason to try again, or a reason to stop."""

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fledgling.errors import ConfigError, FledglingError, Unavailable
from fledgling.records import Outcome, Prediction

MAX_PAUSE_S = 120.0
QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
PARAMETER_CODES = ("unsupported_parameter", "unsupported_value", "unknown_parameter", "invalid_value")
UNITS_S = {"d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "": 1}
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|us|µs|ns|[dhms]|$)")
CONFIG_KEYS = {
    "temperature": "teacher.temperature (null leaves it out)",
    "seed": "teacher.seed (null leaves it out)",
    "max_tokens": "teacher.max_tokens_key (max_completion_tokens or max_tokens)",
    "max_completion_tokens": "teacher.max_tokens_key (max_completion_tokens or max_tokens) and teacher.max_tokens",
    "response_format": "teacher.response_format (json_schema, json_object or none)",
    "model": "teacher.model",
}

Trouble = Literal["timeout", "connect", "broken", "cancelled"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from one call, whatever it was.

    `status` and `text` are None where there was no whole response; then `trouble` says why:
    timeout (the wall-clock deadline), connect (never reached), broken (reset, cut short, no HTTP).
    """

    latency_s: float
    status: int | None = None
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    trouble: Trouble | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Names:
    """What the user has to change, per subject: environment variables or configuration keys."""

    key: str
    endpoint: str
    deployment: str
    api_version: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about a reply. `pause_s` is the provider's own wish, None where it has none.

    finished: keep it for good · transient: try again · rejected: this row fails in this run, and the
    run stops if it was the first call · stop: no other row would fare better.
    """

    kind: Literal["finished", "transient", "rejected", "stop"]
    message: str = ""
    billed: Literal["yes", "no", "maybe"] = "no"
    pause_s: float | None = None
    rate_limited: bool = False
    error: FledglingError | None = None
    usage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a finished reply says; the fields of a Prediction that do not name its row."""

    outcome: Outcome
    raw: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    model: str | None = None
    fingerprint: str | None = None


def judge(reply: Reply, names: Names) -> Verdict:
    """What to do about a reply. Decides on status and error code, never on prose, where there is a code."""
    if reply.status is None:
        return Verdict("transient", f"{reply.trouble}: {reply.detail}", "no" if reply.trouble == "connect" else "maybe")
    if reply.status == 200:
        answer = read(200, reply.text or "")
        if answer is not None:
            return Verdict("finished", billed="yes", usage=answer.usage)
        return Verdict("transient", f"HTTP 200 without an answer: {_shorten(reply.text)}", "maybe")
    error = _error(reply.text)
    code, message = str(error.get("code") or error.get("type") or ""), str(error.get("message") or _shorten(reply.text))
    what = f"HTTP {reply.status}" + (f" {code}" if code else "") + f": {message}"
    if reply.status == 429 and {code, str(error.get("type"))} & set(QUOTA):
        return _stop(Unavailable, f"the provider's quota is used up ({what}); top it up and run the same command")
    if reply.status in (408, 409, 425, 429) or reply.status >= 500:
        pause = retry_after(reply.headers)
        if pause is not None and pause > MAX_PAUSE_S:
            return _stop(Unavailable, f"the provider asks to wait {pause:,.0f} s ({what}); run the same command then")
        billed: Literal["no", "maybe"] = "no" if reply.status in (409, 425, 429) else "maybe"
        return Verdict("transient", what, billed, pause, rate_limited=reply.status == 429)
    if read(reply.status, reply.text or "") is not None:
        return Verdict("finished", what)
    return _refused(reply.status, error, code, what, names)


def read(status: int, text: str) -> Answer | None:
    """What a finished reply says, or None where it is no finished reply. A pure function of what is kept."""
    if status != 200:
        return _read_refusal(status, _error(text))
    try:
        body = json.loads(text)
        choice = body["choices"][0]
        message = choice["message"]
        content, calls = message.get("content"), message.get("tool_calls") or None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(content, str | None) or not _are_calls(calls):
        return None
    finish = choice.get("finish_reason")
    outcome: Outcome = "ok"
    if finish in ("length", "content_filter"):
        outcome = finish
    elif message.get("refusal"):
        outcome, content = "refusal", content or str(message["refusal"])
    elif not calls and not (content or "").strip():
        outcome = "empty"
    return Answer(
        outcome,
        content,
        calls,
        _text(finish),
        _usage(body),
        _text(body.get("model")),
        _text(body.get("system_fingerprint")),
    )


def prediction(row: str, key: str, record: Mapping[str, Any]) -> Prediction:
    """The prediction of a row from the record that the journal keeps under its key."""
    answer = read(record["status"], record["body"]) or Answer("error")
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
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the provider asks to wait: milliseconds, seconds or an HTTP date; None where there is no sense in it.

    A date counts from the response's own Date where it has one, so that a wrong clock here does not matter.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if seconds == math.inf and headers[name].strip()[0].isdigit():
            return MAX_PAUSE_S * 1000  # a number too large for a float is a wish to wait long
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    until, now = _date(headers.get("retry-after")), _date(headers.get("date"))
    if until is None:
        return None
    return max(0.0, until - (time.time() if now is None else now))


def reset_s(headers: Mapping[str, str]) -> float:
    """Seconds until calls are allowed again where the provider says that requests or tokens are used up, else 0.

    Reads x-ratelimit-remaining-* and x-ratelimit-reset-* (`1s`, `6m0s`, `20ms`; a plain number is seconds); what makes
    no sense is ignored. At most MAX_PAUSE_S: a reset is when everything is allowed again, and one call may be sooner.
    """
    waits = [
        _duration_s(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0"
    ]
    return min(MAX_PAUSE_S, max(waits, default=0.0))


def _duration_s(text: str) -> float:
    """Seconds of a duration as Go writes it, or of a plain number; 0 where it is neither."""
    parts = DURATION.findall(text.strip())
    if "".join(map("".join, parts)) != text.strip():
        return 0.0
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


def _date(text: str | None) -> float | None:
    try:
        parts = email.utils.parsedate_tz(text or "")
        return None if parts is None else float(email.utils.mktime_tz(parts))
    except (TypeError, ValueError, OverflowError):
        return None


def _refused(status: int, error: Mapping[str, Any], code: str, what: str, names: Names) -> Verdict:
    """A 3xx or 4xx that is not about one row's content."""
    text = f"{code} {error.get('message', '')}".lower()
    if status == 401:
        return _stop(ConfigError, f"{names.key} was refused (HTTP 401); set it to a key of this endpoint")
    if status == 403:
        return _stop(ConfigError, f"access was denied ({what}); check {names.key} and what it may use")
    if status == 402:
        return _stop(Unavailable, f"the provider wants to be paid first ({what}); run the same command then")
    if status in (400, 404) and ("api-version" in text or "api version" in text):
        return _stop(ConfigError, f"{names.api_version} is not accepted ({what})")
    if status == 404 or code == "model_not_found":
        return _stop(ConfigError, f"{names.deployment} does not exist at {names.endpoint} ({what})")
    if status < 400:
        return _stop(
            ConfigError,
            f"{names.endpoint} redirects (HTTP {status}); nothing is sent elsewhere, set the address itself",
        )
    parameter = str(error.get("param") or "")
    key = CONFIG_KEYS.get(parameter.partition(".")[0])
    if key or code in PARAMETER_CODES[:3]:
        return _stop(
            ConfigError,
            f"the endpoint does not take {parameter or 'a parameter'} ({what}); change {key or 'the teacher section'}",
        )
    return Verdict("rejected", f"the endpoint does not take the request ({what}); check {names.endpoint}")


def _read_refusal(status: int, error: Mapping[str, Any]) -> Answer | None:
    """A 4xx that is about this one row: its outcome."""
    code = str(error.get("code") or "")
    inner = error.get("innererror")
    inner_code = str(inner.get("code")) if isinstance(inner, dict) else ""
    if status in (400, 403) and (code == "content_filter" or inner_code == "ResponsibleAIPolicyViolation"):
        return Answer("content_filter", finish_reason="content_filter")
    too_long = "maximum context length" in str(error.get("message", ""))  # vLLM gives no code
    if code in ("context_length_exceeded", "string_above_max_length") or status == 413 or (status == 400 and too_long):
        return Answer("length")
    parameter = str(error.get("param") or "")
    if status in (400, 422) and code not in PARAMETER_CODES[:3] and parameter.startswith(("messages", "tools")):
        return Answer("error")
    return None


def _stop(error: type[FledglingError], message: str) -> Verdict:
    return Verdict("stop", message, error=error(message))


def _error(text: str | None) -> Mapping[str, Any]:
    try:
        body = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    error = body.get("error", body) if isinstance(body, dict) else {}
    return error if isinstance(error, dict) else {"message": str(error)}


def _are_calls(calls: Any) -> bool:
    return calls is None or (isinstance(calls, list) and all(isinstance(call, dict) for call in calls))


def _usage(body: Mapping[str, Any]) -> dict[str, int]:
    usage = body.get("usage")
    counts = (
        {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")} if isinstance(usage, dict) else {}
    )
    return {name: count for name, count in counts.items() if isinstance(count, int) and not isinstance(count, bool)}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _shorten(text: str | None) -> str:
    return repr((text or "")[:200])
