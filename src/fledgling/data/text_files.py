"""Rows out of JSON and JSON Lines, read strictly."""

import zlib
from collections.abc import Iterator
from itertools import islice

from fledgling import strict_json
from fledgling.data.invalid import Unusable
from fledgling.errors import DataError
from fledgling.files import decode_line, open_binary, read_lines

MAX_ROW = 4 << 20  # bytes of one row: more than any model reads
DAMAGED = (EOFError, OSError, zlib.error)  # how a damaged .gz shows, too
_CONTAINERS = frozenset(("resourceSpans", "resourceLogs", "data"))
# A row as parsed, or why its text could not be parsed.
Raw = tuple[int, object]


def json_lines(name: str) -> Iterator[Raw]:
    """The rows of a .jsonl or .jsonl.gz file by line number; a line that is no JSON is an Unusable.

    Raises:
        DataError: not to be read to its end, or not UTF-8.
    """
    try:
        for number, raw in _lines(name):
            if raw is None:
                yield number, Unusable("row_too_long", f"the row has over {MAX_ROW:,} bytes; leave it out")
                continue
            try:
                yield number, strict_json.parse(raw)
            except ValueError as error:
                yield number, Unusable("not_json", f"not JSON ({error}); one JSON object a line is read")
    except DAMAGED as error:
        raise DataError(f"{name}: cannot be read to its end ({error}); replace the file") from None


def json_document(name: str, field: str | None = None) -> Iterator[Raw]:
    """The rows of a .json or .json.gz file: a list, a list under `field`, or JSON Lines under another name.

    Raises:
        DataError: it is none of these, or not to be read to its end.
    """
    try:
        text = "\n".join(line for _, line in read_lines(name))
    except DAMAGED as error:
        raise DataError(f"{name}: cannot be read to its end ({error}); replace the file") from None
    try:
        rows = strict_json.parse(text)
    except ValueError as error:
        first = text.partition("\n")[0]
        if not text.startswith("{") or not _is_object(first):
            raise DataError(f"{name}: not JSON ({error})") from None
        yield from json_lines(name)
        return
    if field is not None and isinstance(rows, dict):
        rows = rows.get(field)
    if isinstance(rows, dict):
        single = "\n" not in text.strip() or _CONTAINERS & rows.keys()
        rows = [rows] if single else rows  # JSON Lines of a single row, or what holds the calls of a log
    if not isinstance(rows, list):
        raise DataError(f"{name}: expected a JSON list of rows, found {type(rows).__name__}")
    yield from enumerate(rows, 1)


def holds_lines(name: str) -> bool:
    """Whether a file is JSON Lines whatever its name: one of its first two lines is an object, and it begins no list.

    The second line counts because the first may be a broken row. A damaged file counts as lines, whose reader says so.
    """
    try:
        first = [line or "" for _, line in islice(_lines(name), 2)]
    except DAMAGED:
        return True
    return any(map(_is_object, first)) and not first[0].lstrip().startswith("[")


def _is_object(line: str) -> bool:
    try:
        return isinstance(strict_json.parse(line), dict)
    except ValueError:
        return False


def _lines(name: str) -> Iterator[tuple[int, str | None]]:
    """The lines of a file with their numbers, blank ones left out; None for one that is too long to hold.

    The same as `files.read_lines`, within bounded memory.
    """
    with open_binary(name) as stream:
        number = 0
        while raw := stream.readline(MAX_ROW + 1):
            number += 1
            too_long = len(raw) > MAX_ROW
            while too_long and raw and not raw.endswith(b"\n"):
                raw = stream.readline(MAX_ROW)
            if too_long:
                yield number, None
                continue
            text = decode_line(name, number, raw)
            if text.strip():
                yield number, text
