"""JSON by the letter of RFC 8259, with exact numbers and with caps that a hostile text cannot break.

Two conventions hold for every parsed value:
an integer without fraction or exponent is an `int`, of any size up to the caps;
any other number is a plain `float` where the float's shortest decimal form has exactly the value of the text,
and an `ExactFloat`, which remembers the value, where it has not (`0.1000000000000000055`, `1e999`).
So a plain float stands for its shortest decimal form, and values from `json.loads` compare as one expects.
"""

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

MAX_SIZE = 1 << 20  # characters of one text (bytes of UTF-8 where bytes are given); a reply of 4,096 tokens has 20,000
MAX_DEPTH = 128  # arrays and objects inside each other
MAX_NUMBER = 10_000  # characters of one number; longer ones take a time that grows with the square of their length
_INT_TEXT_LIMIT = 4_300  # digits up to which Python converts between int and text by itself
_CHUNK = 4_000
_EXACT = 1 << 53  # integers below are floats too


class ExactFloat(float):
    """A number that no float has exactly: as a float the nearest one (infinite beyond 1.8e308), `exact` its value."""

    __slots__ = ("exact",)
    exact: Decimal

    def __new__(cls, exact: Decimal | str) -> "ExactFloat":
        """The nearest float of an exact value."""
        exact = Decimal(exact)
        number = super().__new__(cls, exact)
        number.exact = exact
        return number

    def __repr__(self) -> str:
        return f"ExactFloat('{self.exact}')"

    def __getnewargs__(self) -> tuple[Decimal]:  # type: ignore[override]  # copies and pickles keep the exact value
        return (self.exact,)


def loads(text: str | bytes) -> Any:
    """The value of one JSON text: dict, list, str, int, float (or ExactFloat), bool or None.

    Escaped lone surrogates are kept as they are written.

    Raises:
        ValueError: anything that RFC 8259 refuses (NaN, Infinity, trailing text, other white space, a byte
            order mark, bytes that are not UTF-8), a name that occurs twice in an object, or one of the caps:
            MAX_SIZE, MAX_DEPTH, MAX_NUMBER, an exponent of 19 digits.
    """
    return parse(checked(text))


def parse(text: str) -> Any:
    """As `loads`, without the cap on the length, for text that is known to be UTF-8: a line of a file, say.

    Raises:
        ValueError: not JSON, or one of the other caps.
    """
    value, end = scan(text, skip_space(text, 0))
    if skip_space(text, end) != len(text):
        raise ValueError(f"text after the JSON value, at character {end}")
    return value


def checked(text: str | bytes) -> str:
    """The text itself, once its size and its encoding are known to be right for `scan`.

    Raises:
        ValueError: longer than MAX_SIZE, or not UTF-8 (a str with raw lone surrogates is not).
    """
    if len(text) > MAX_SIZE:
        raise ValueError(f"longer than {MAX_SIZE:,} characters")
    if isinstance(text, bytes):
        return text.decode("utf-8")
    if not text.isascii():
        text.encode("utf-8")
    return text


def scan(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that begins exactly at `start` of a checked text, and where it ends.

    Raises:
        ValueError: there is none, as for `loads`.
    """
    try:
        value, end = _SCAN(text, start)
    except StopIteration as stop:
        raise ValueError(f"no JSON value at character {stop.value}") from None
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH}") from None
    if text.count("[", start, end) + text.count("{", start, end) > MAX_DEPTH and depth(value) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    return value, end


def skip_space(text: str, start: int) -> int:
    """The first position at or after `start` that is not JSON white space."""
    return _SPACE.match(text, start).end()  # type: ignore[union-attr]  # the pattern matches everywhere


def depth(value: Any) -> int:
    """How many arrays and objects stand inside each other: 0 for a scalar, 1 for []; never recurses."""
    levels = 0
    level = [value] if isinstance(value, (dict, list)) else []
    while level:
        levels += 1
        level = [child for node in level for child in _children(node) if isinstance(child, (dict, list))]
    return levels


def equal(a: Any, b: Any) -> bool:
    """JSON Schema's equality of two parsed values; exact for numbers of any size, never recurses.

    1, 1.0 and 1e0 are equal, true is not 1, strings are compared by code point, the order of an
    object's names is not looked at, that of an array's items is.
    """
    if type(a) is str and type(b) is str:
        return a == b
    stack = [(a, b)]
    while stack:
        a, b = stack.pop()
        if a is b:
            continue
        if isinstance(a, str):
            if not isinstance(b, str) or a != b:
                return False
        elif isinstance(a, bool) or a is None:
            return False  # both are singletons, and the same one was seen above
        elif isinstance(a, (int, float)):
            if isinstance(b, bool) or not isinstance(b, (int, float)) or not same_number(a, b):
                return False
        elif isinstance(a, dict):
            if not isinstance(b, dict) or a.keys() != b.keys():
                return False
            stack.extend((item, b[name]) for name, item in a.items())
        elif isinstance(a, (list, tuple)):
            if not isinstance(b, (list, tuple)) or len(a) != len(b):
                return False
            stack.extend(zip(a, b, strict=True))
        else:
            return False
    return True


def same_number(a: int | float, b: int | float) -> bool:
    """Whether two numbers have one value; costs no more than their digits, whatever their exponents."""
    if type(a) is type(b) and type(a) is not ExactFloat:
        return a == b
    if isinstance(a, int) and -_EXACT < a < _EXACT and type(b) is float:
        return a == b
    if isinstance(b, int) and -_EXACT < b < _EXACT and type(a) is float:
        return a == b
    return _decimal(a) == _decimal(b)


def dumps(value: Any) -> str:
    """JSON text of a parsed value that `loads` reads back as an equal one, ExactFloat and huge integers included.

    Names in the order given, no spaces, lone surrogates escaped.

    Raises:
        ValueError: NaN, infinity, or nested deeper than MAX_DEPTH.
        TypeError: a type that JSON has not.
    """
    if depth(value) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    text = (
        json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        if is_plain(value)
        else "".join(_write(value))
    )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return text


def is_plain(value: Any) -> bool:
    """Whether `json.dumps` and `json.loads` keep a parsed value: no ExactFloat and no integer of over 4,300 digits."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, (dict, list)):
            stack.extend(_children(node))
        elif type(node) is ExactFloat or (type(node) is int and node.bit_length() > 14_000 and abs(node) >= _TOO_LONG):
            return False
    return True


def _children(node: Any) -> Any:
    return node.values() if isinstance(node, dict) else node


def _write(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield "{"
        for position, (name, item) in enumerate(value.items()):
            yield f"{',' if position else ''}{json.dumps(name, ensure_ascii=False)}:"
            yield from _write(item)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for position, item in enumerate(value):
            if position:
                yield ","
            yield from _write(item)
        yield "]"
    elif isinstance(value, ExactFloat):
        text = str(value.exact)
        yield text if "." in text or "E" in text else f"{text}.0"
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(Decimal(value))
    else:
        yield json.dumps(value, ensure_ascii=False, allow_nan=False)


def _decimal(number: int | float) -> Decimal:
    if isinstance(number, ExactFloat):
        return number.exact
    return Decimal(number) if isinstance(number, int) else Decimal(float.__repr__(number))


def _integer(text: str) -> int:
    if len(text) <= _INT_TEXT_LIMIT:
        return int(text)
    if len(text) > MAX_NUMBER:
        raise ValueError(f"a number of over {MAX_NUMBER:,} characters")
    value = 0
    for start in range(0, len(digits := text.removeprefix("-")), _CHUNK):  # faster than Decimal's own conversion
        chunk = digits[start : start + _CHUNK]
        value = value * 10 ** len(chunk) + int(chunk)
    return -value if text[0] == "-" else value


def _number(text: str) -> float:
    number = float(text)
    if repr(number) == text:
        return number
    if len(text) > MAX_NUMBER:
        raise ValueError(f"a number of over {MAX_NUMBER:,} characters")
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise ValueError("an exponent of over 18 digits") from None
    return number if Decimal(repr(number)) == exact else ExactFloat(exact)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_TOO_LONG = 10**_INT_TEXT_LIMIT
_SPACE = re.compile(r"[ \t\n\r]*")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_SCAN: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant, strict=True
).scan_once  # type: ignore[attr-defined]  # the scanner below raw_decode, which builds its errors in quadratic time
