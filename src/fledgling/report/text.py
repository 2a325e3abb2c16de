"""Numbers and foreign text as people read them: rounded for the eye, bounded in length, harmless to display."""

import json
import math
import unicodedata
from collections.abc import Mapping
from typing import Any

NBSP = "\u00a0"
MINUS = "\u2212"
ABSENT = "n/a"
# Joiners: needed between the letters of Persian or Hindi and inside emoji, invisible everywhere else.
_JOINERS = "\u200c\u200d"
_EMOJI_STYLE = "\ufe0f"  # makes a picture of the symbol before it
# Letters and marks by category that no font draws: Hangul fillers, the grapheme joiner, Braille blank, selectors.
_BLANK = frozenset(
    [847, 4447, 4448, 6068, 6069, 10240, 12644, 65440, *range(6155, 6160), *range(65024, 65040), *range(917760, 918000)]
)


def percent(value: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as "91.4 %"; "n/a" for None."""
    return ABSENT if value is None else f"{100 * value:.{digits}f}{NBSP}%"


def size(value: float, digits: int = 1) -> str:
    """The size of a gap in [-1, 1] as score points without its sign: "3.2", and "5" for whole ones."""
    return f"{abs(100 * value):.{digits}f}".removesuffix(".0")


def gap(value: float | None, digits: int = 1) -> str:
    """A gap (teacher minus contender) in words: "33.9 points worse", "2 points better", "no difference"."""
    if value is None:
        return ABSENT
    shown = size(value, digits)
    if not float(shown):
        return "no difference"
    return f"{shown}{NBSP}{'point' if shown == '1' else 'points'} {'worse' if value > 0 else 'better'}"


def span(low: float | None, high: float | None) -> str:
    """The bounds of a gap in words: "29.2 to 38.1 points worse", "2.5 points better to 1.3 worse"."""
    if low is None or high is None:
        return ABSENT
    if (low < 0) == (high < 0) or not float(size(low)) or not float(size(high)):
        near, far = sorted((low, high), key=abs)
        return f"{size(near)} to {gap(far)}"
    return f"{gap(low)} to {size(high)} worse"


def count(value: float | None) -> str:
    """A whole number with thousands separated, "12,400"; "n/a" for None."""
    return ABSENT if value is None else f"{round(value):,}"


def money(amount: float | None, currency: str | None, *, whole: bool = False) -> str:
    """An amount with at least two significant digits after small units, "0.0042 USD"; "n/a" for None.

    `whole` leaves out what is smaller than a hundredth of the unit, and cents from 100 on: "1,582 USD".
    """
    if amount is None:
        return ABSENT
    digits = 2 if amount == 0 or abs(amount) >= 0.1 or whole else min(8, 1 - math.floor(math.log10(abs(amount))))
    if whole and abs(amount) >= 100:
        digits = 0
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
        "interval": f"{percent(entry['low']).removesuffix(NBSP + '%')} to {percent(entry['high'])}",
        "k": "" if entry.get("k") is None else f"{count(entry['k'])} of {count(entry['n'])}",
    }


def sentence(words: str) -> str:
    """The same words with a capital first letter and a full stop."""
    return capital(words) if words[-1:] in ".!?" else f"{capital(words)}."


def capital(words: str) -> str:
    """The same words with a capital first letter."""
    return words[:1].upper() + words[1:]


def prose(words: str) -> str:
    """A sentence of the verdict, safe to show; numbers are not parted from their percent sign."""
    return clean(words, 4_000).replace(" %", f"{NBSP}%")


def clean(text: str, limit: int = 2_000, *, spaces: bool = False) -> str:
    """At most `limit` characters of foreign text, safe to show, with nothing invisible left in it.

    Control characters become their pictures (U+2400…), lone surrogates U+FFFD; what has no width, reorders the
    text around it or ends a line in secret becomes its code point, as do (with `spaces`) blanks other than the
    common one. Line feeds and tabs stay. What was cut is stated at the end. Escaping for HTML is left to the template.
    """
    part = text[:limit]
    if not (part.isascii() and part.isprintable()):
        around = f" {part} "
        part = "".join(
            _visible(one, around[place] + around[place + 2], spaces=spaces) for place, one in enumerate(part)
        )
    return part if len(text) <= limit else f"{part} … [{len(text):,} characters, the first {limit:,} shown]"


def _visible(character: str, neighbours: str, *, spaces: bool) -> str:
    if character in "\n\t" or (character.isascii() and character.isprintable()):
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    kind = unicodedata.category(character)
    if kind == "Cs" or code & 0xFFFE == 0xFFFE:
        return "\ufffd"
    if character in _JOINERS and not neighbours.isascii() and not any(map(str.isspace, neighbours)):
        return character
    if character == _EMOJI_STYLE and (unicodedata.category(neighbours[0])[0] == "S" or neighbours[0] in "#*0123456789"):
        return character
    if kind in ("Cc", "Cf", "Zl", "Zp", "Cn", "Co") or code in _BLANK or (spaces and kind == "Zs"):
        return f"[U+{code:04X}]"
    return character


def value(item: Any, limit: int = 200) -> str:
    """One JSON value on one line, as JSON, bounded and safe to show."""
    return clean(_dump(item), limit, spaces=True)


def plain(item: Any, limit: int = 4_000) -> str:
    """Readable form of any JSON value: text as it is, everything else as indented JSON; bounded and safe."""
    return clean(item if isinstance(item, str) else _dump(item, indent=2), limit)


def _dump(item: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(item, ensure_ascii=False, indent=indent)
    except (RecursionError, ValueError):
        return f"[{type(item).__name__} too deep or too long to show]"
