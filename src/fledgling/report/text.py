"""Numbers and foreign text as people read them: rounded for the eye, bounded in length, harmless to display."""

import json
import math
from collections.abc import Mapping
from typing import Any

NBSP = "\u00a0"
MINUS = "\u2212"
ABSENT = "n/a"
# Marks that reorder the text around them: shown by their code point, so that a reply cannot dress up as another.
_BIDI = frozenset([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C])


def percent(value: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as "91.4 %"; "n/a" for None."""
    return ABSENT if value is None else f"{100 * value:.{digits}f}{NBSP}%"


def points(value: float | None, digits: int = 1) -> str:
    """A gap in [-1, 1] as signed score points, "+3.2"; "n/a" for None."""
    if value is None:
        return ABSENT
    text = f"{100 * value:+.{digits}f}"
    return text.lstrip("+-") if not float(text) else text.replace("-", MINUS)


def count(value: float | None) -> str:
    """A whole number with thousands separated, "12,400"; "n/a" for None."""
    return ABSENT if value is None else f"{round(value):,}"


def money(amount: float | None, currency: str | None) -> str:
    """An amount with at least two significant digits after small units, "0.0042 USD"; "n/a" for None."""
    if amount is None:
        return ABSENT
    digits = 2 if amount == 0 or abs(amount) >= 0.1 else min(8, 1 - math.floor(math.log10(abs(amount))))
    return f"{amount:,.{digits}f}{NBSP}{currency or ''}".rstrip()


def seconds(value: float | None) -> str:
    """A duration as "850 ms", "1.24 s", "3 min 20 s" or "2 h 05 min"; "n/a" for None."""
    if value is None:
        return ABSENT
    if value < 0.9995:
        return f"{1000 * value:.{2 if value < 0.01 else 0}f}{NBSP}ms"
    if value < 59.995:
        return f"{value:.2f}{NBSP}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min{NBSP}{rest:02d}{NBSP}s"
    return f"{minutes // 60}{NBSP}h{NBSP}{minutes % 60:02d}{NBSP}min"


def p_value(value: float | None) -> str:
    """A p value as "0.031" or "< 0.001"; "n/a" for None."""
    if value is None:
        return ABSENT
    return f"<{NBSP}0.001" if value < 0.001 else f"{value:.3f}"


def rate(entry: Mapping[str, Any] | None) -> dict[str, str]:
    """A rate {"value", "low", "high"} with its interval and, where there are "k" and "n", the rows counted."""
    if entry is None or entry["value"] is None:
        return {"value": ABSENT, "interval": "", "k": ""}
    return {
        "value": percent(entry["value"]),
        "interval": f"{percent(entry['low'])} – {percent(entry['high'])}",
        "k": "" if entry.get("k") is None else f"{count(entry['k'])} of {count(entry['n'])}",
    }


def prose(sentence: str) -> str:
    """A sentence of the verdict, safe to show; numbers are not parted from their percent sign."""
    return clean(sentence, 1_000).replace(" %", f"{NBSP}%")


def clean(text: str, limit: int = 2_000) -> str:
    """At most `limit` characters of foreign text, safe to show.

    Control characters become their pictures (U+2400…), lone surrogates U+FFFD, marks that reorder text
    their code point; line feeds and tabs stay. What was cut is stated at the end. Escaping for HTML is
    left to the template.
    """
    shown = "".join(_visible(character) for character in text[:limit])
    return shown if len(text) <= limit else f"{shown} … [{len(text):,} characters, the first {limit:,} shown]"


def _visible(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0x80 <= code < 0xA0 or code in _BIDI:
        return f"[U+{code:04X}]"
    if 0xD800 <= code < 0xE000 or code & 0xFFFE == 0xFFFE:
        return "\ufffd"
    return character


def value(item: Any, limit: int = 200) -> str:
    """One JSON value on one line, as JSON, bounded and safe to show."""
    return clean(_dump(item), limit)


def plain(item: Any, limit: int = 4_000) -> str:
    """Readable form of any JSON value: text as it is, everything else as indented JSON; bounded and safe."""
    return clean(item if isinstance(item, str) else _dump(item, indent=2), limit)


def _dump(item: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(item, ensure_ascii=False, indent=indent)
    except (RecursionError, ValueError):
        return f"[{type(item).__name__} too deep or too long to show]"
