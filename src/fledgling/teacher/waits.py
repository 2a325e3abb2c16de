"""How long a provider asks to wait: Retry-After in all its forms, limits that are used up, and sentences that say so."""

import email.utils
import math
import re
import time
from collections.abc import Mapping

MAX_PAUSE_S = 120.0
UNITS_S = {"d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "": 1}
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|us|µs|ns|[dhms]|$)")
SAID = re.compile(
    r"(?:try again|retry|replenished|available again)\s+(?:after|in)\s+"
    r"(?:(?P<h>[0-9]{1,4}):(?P<m>[0-9]{2}):(?P<s>[0-9]{2})|(?P<n>[0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(?P<u>ms|milli|s|m|h)?)",
    re.IGNORECASE,
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
        parts = email.utils.parsedate_tz(text or "")
        return None if parts is None else float(email.utils.mktime_tz(parts))
    except (TypeError, ValueError, OverflowError):
        return None
