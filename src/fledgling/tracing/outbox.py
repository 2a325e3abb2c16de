"""The outbox: parcels on disk until every receiver has confirmed them, and receipts for as long as the folder stays.

A parcel is two files. {name}.jsonl.gz has its context and its lines, and goes when all is delivered; {name}.json says
how many lines each receiver has confirmed, and stays as the receipt that keeps the same parcel from being sent again.
Both appear whole or not at all, so a killed process costs at most what was on its way, which is sent again under the
same ids.
"""

import gzip
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypedDict, cast

from fledgling.errors import DataError
from fledgling.files import json_line, publish, read_json, write_json
from fledgling.locks import lock
from fledgling.tracing.records import Context, Line, Parcel

FORMAT: Literal["fledgling/outbox/1"] = "fledgling/outbox/1"
PAUSE_S = 0.05


class Receipt(TypedDict):
    """{name}.json: a parcel, and how far it is delivered."""

    format: Literal["fledgling/outbox/1"]
    key: str
    track: str
    lines: int
    at: int
    """The time in its context; a parcel that is made once more keeps it, for receivers file by time."""
    to: list[str]
    """Kinds of receivers that shall have it."""
    sent: dict[str, int]
    """Lines that a receiver has confirmed, by its address."""
    refused: int
    """Lines that a receiver does not take; they are in refused.jsonl."""


class Outbox:
    """A folder of parcels. Writers need no lock; one process at a time sends (`sending`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, parcel: Parcel, receivers: Sequence[tuple[str, str | None]]) -> int:
        """Keep a parcel for receivers (kind, address or None where it is not known yet); returns lines newly kept.

        Nothing is written where it waits already, or where the receiver at that address has all of it.
        """
        path = self._receipt(parcel.name)
        old = _read(path) if path.is_file() else None
        if old and all(self._has(old, parcel.name, kind, address) for kind, address in receivers):
            return 0
        context: Context = {**parcel.context, "at": old["at"] if old else parcel.context["at"]}
        count = 0
        with (
            publish(self._lines(parcel.name), "wb") as stream,
            gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=1, mtime=0) as packed,
        ):
            packed.write((json_line(context) + "\n").encode())
            for line in parcel.lines():
                packed.write((json_line(line) + "\n").encode())
                count += 1
        kinds = {kind for kind, _ in receivers} | set(old["to"] if old else ())
        receipt: Receipt = {
            "format": FORMAT,
            "key": parcel.key,
            "track": context["track"],
            "lines": count,
            "at": context["at"],
            "to": sorted(kinds),
            "sent": old["sent"] if old else {},
            "refused": old["refused"] if old else 0,
        }
        write_json(path, receipt)
        return count

    def _has(self, receipt: Receipt, name: str, kind: str, address: str | None) -> bool:
        if kind in receipt["to"] and self._lines(name).is_file() and not delivered(receipt, kind):
            return True
        return delivered(receipt, kind) if address is None else receipt["sent"].get(address, -1) >= receipt["lines"]

    def waiting(self) -> list["Kept"]:
        """Parcels that some receiver still lacks, in the order in which they have to arrive."""
        found = [Kept(self, path.stem, _read(path)) for path in sorted(self.folder.glob("*.json"))]
        return [one for one in found if one.open_for and self._lines(one.name).is_file()]

    def kept(self, kind: str) -> int:
        """Lines that the receivers of a kind still lack."""
        return sum(one.lacks(kind) for one in self.waiting() if kind in one.open_for)

    @contextmanager
    def sending(self, give_up: Callable[[], bool]) -> Iterator[bool]:
        """Be the one process that sends; waits for another one until `give_up`, and then yields False.

        Raises:
            ConfigError: the file system has no locks.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "sending.lock"
        with open(path, "a") as stream:
            while not (mine := lock(stream.fileno(), path, "set trace.outbox to a folder on another disk")):
                if give_up():
                    break
                time.sleep(PAUSE_S)
            yield mine

    def set_aside(self, receiver: str, reason: str, context: Context, line: Line) -> None:
        """Keep a line that a receiver does not take, with its reason, out of the others' way."""
        row = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "receiver": receiver, "reason": reason}
        with open(self.folder / "refused.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json_line({**row, "track": context["track"], "line": line}) + "\n")

    def _receipt(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _lines(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl.gz"


class Kept:
    """One parcel of an outbox that is not delivered everywhere."""

    def __init__(self, outbox: Outbox, name: str, receipt: Receipt) -> None:
        self._outbox, self.name, self.receipt = outbox, name, receipt

    @property
    def open_for(self) -> list[str]:
        """Kinds of receivers that lack some of it."""
        return [kind for kind in self.receipt["to"] if not delivered(self.receipt, kind)]

    def lacks(self, kind: str) -> int:
        """Lines that receivers of a kind lack."""
        return self.receipt["lines"] - max(_confirmed(self.receipt, kind), default=0)

    def read(self, address: str) -> tuple[Context, Iterator[Line]]:
        """The context, and the lines that the receiver at an address has not confirmed.

        Raises:
            DataError: the file is damaged.
        """
        path = self._outbox._lines(self.name)
        lines = _unpacked(path)
        context = cast(Context, next(lines))
        for _ in range(self.receipt["sent"].get(address, 0)):
            next(lines)
        return context, cast(Iterator[Line], lines)

    def confirm(self, address: str, count: int, refused: int = 0) -> None:
        """The receiver at an address has `count` lines more (of which it refused some); goes when nobody lacks any."""
        sent = self.receipt["sent"]
        sent[address] = sent.get(address, 0) + count
        self.receipt["refused"] += refused
        write_json(self._outbox._receipt(self.name), self.receipt)
        if not self.open_for:
            self._outbox._lines(self.name).unlink(missing_ok=True)


def delivered(receipt: Receipt, kind: str) -> bool:
    """Whether some receiver of a kind has all of a parcel."""
    return any(lines >= receipt["lines"] for lines in _confirmed(receipt, kind))


def _confirmed(receipt: Receipt, kind: str) -> list[int]:
    return [lines for address, lines in receipt["sent"].items() if address.startswith(f"{kind} ")]


def _read(path: Path) -> Receipt:
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise DataError(f"{path}: not a receipt of an outbox ({FORMAT}); delete it, and the run sends its parcel again")
    return cast(Receipt, value)


def _unpacked(path: Path) -> Iterator[object]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as stream:
            for text in stream:
                yield json.loads(text)
    except (EOFError, ValueError, OSError) as error:
        raise DataError(
            f"{path}: damaged ({error}); delete it, its .json and results/trace, and build these again"
        ) from None
