"""One line of a journal: `{"sum", "key", "kind", "at", "record"}`, with a checksum over the rest of the line."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from fledgling.files import json_line

Kind = Literal["intent", "result", "failure", "taken"]
START = b'{"sum":"'
KEY_AT, KIND_AT = 33, 107  # {"sum":"<16>","key":"<64>","kind":"… : fixed places, so that indexing parses no JSON


@dataclass(frozen=True, slots=True)
class Entry:
    """One whole line of a journal; `record` is what was put, `at` the UTC time of writing.

    intent: work is about to start · result: it is finished · failure: it has to be done again · taken: its result
    was taken back.
    """

    key: str
    kind: Kind
    at: str
    record: dict[str, Any]


def encode(key: str, kind: Kind, record: Mapping[str, object]) -> bytes:
    """The line of one entry, with its checksum and line feed."""
    if len(key) != 64:
        raise ValueError(f"a journal key is a sha256 in hex, not {key!r}")
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    rest = f'"key":"{key}","kind":"{kind}","at":"{at}","record":{json_line(record)}}}'.encode()
    return b'%s%s",%s\n' % (START, _sum(rest), rest)


def is_whole(line: bytes) -> bool:
    """Whether a line (with or without its line feed) is what was written."""
    line = line.rstrip(b"\n")
    return line.startswith(START) and line[24:26] == b'",' and line[8:24] == _sum(line[26:])


def decode(line: bytes) -> Entry:
    """The entry of a whole line."""
    value = json.loads(line)
    return Entry(value["key"], value["kind"], value["at"], value["record"])


def key_of(line: bytes) -> str:
    """The key of a whole line, without parsing it."""
    return line[KEY_AT : KEY_AT + 64].decode()


def is_kind(line: bytes, kind: Kind) -> bool:
    """Whether a whole line is of a kind, without parsing it."""
    return line.startswith(kind.encode(), KIND_AT)


def _sum(rest: bytes) -> bytes:
    return hashlib.sha256(rest).hexdigest()[:16].encode()
