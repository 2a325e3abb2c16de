"""How long a provider asks to wait: Retry-After in all its forms, limits that are used up, and sentences that say so."""

import email.utils
import math
import re
import time
from collections.abc import Mapping
from datetime import datetime

MAX_PAUSE_S = 120.0
UNITS_S = {"d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "": 1}
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|us|µs|ns|[dhms]|$)")
SAID = re.compile(
    r"(?:try again|retry|replenished|available again)\s+(?:after|in)\s+"
    r"(?:(?P<h>[0-9]{1,4}):(?P<m>[0-9]{2}):(?P<s>[0-9]{2})|(?P<n>[0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(?P<u>ms|milli|s|m|h)?)",
    re.IGNORECASE,
)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the provider asks to wait: milliseconds, seconds, a date or a duration; None where it makes no sense.

    A date counts from the response's own Date where it has one, so that a wrong clock here does not matter.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("x-ms-retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if seconds == math.inf and headers[name].strip()[0].isdigit():
            return MAX_PAUSE_S * 1000  # a number too large for a float is a wish to wait long
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    until = _date(headers.get("retry-after"))
    if until is not None:
        return max(0.0, until - _now(headers))
    return _duration_s(headers.get("retry-after", "")) or None


def allowed_again(headers: Mapping[str, str]) -> float | None:
    """Seconds until a refused call is allowed again by the headers of gateways that send no Retry-After, or None.

    `x-ratelimit-reset` is seconds from now, or a time as seconds or milliseconds since 1970 (OpenRouter);
    `ratelimit-reset` and `x-ratelimit-reset-after` are seconds. Where something is left, nothing has to be waited for.
    """
    if headers.get("x-ratelimit-remaining", headers.get("ratelimit-remaining", "0")).strip() != "0":
        return None
    for name in ("x-ratelimit-reset-after", "ratelimit-reset", "x-ratelimit-reset"):
        try:
            value = float(headers[name])
        except (KeyError, ValueError):
            continue
        if math.isfinite(value) and value >= 0:
            since = value / 1000 if value > 1e11 else value
            left = since - _now(headers) if since > 1e8 else since
            return left if left > 0 else None
    return None


def _now(headers: Mapping[str, str]) -> float:
    """The provider's time where it says it, else ours."""
    given = _date(headers.get("date"))
    return time.time() if given is None else given


def said(words: str) -> float | None:
    """Seconds that a sentence asks to wait ("Please retry after 24 seconds", "replenished in 05:12:13"), or None."""
    found = SAID.search(words)
    if not found:
        return None
    if found["h"]:
        return int(found["h"]) * 3600.0 + int(found["m"]) * 60 + int(found["s"])
    unit = (found["u"] or "s").lower()
    return float(found["n"]) * UNITS_S["ms" if unit == "milli" else unit]


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
        if text and re.match(r"\d{4}-\d\d-\d\dT", text):
            return datetime.fromisoformat(text).timestamp()
        parts = email.utils.parsedate_tz(text or "")
        return None if parts is None else float(email.utils.mktime_tz(parts))
    except (TypeError, ValueError, OverflowError):
        return None
