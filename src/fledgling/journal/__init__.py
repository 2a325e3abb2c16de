"""The journal: finished work that must never be done (or paid) twice, kept outside every declared output.

One append-only file a subject, `{folder}/{name}.jsonl`, shared by tracks, splits, runs and processes.
fledgling.journal.line is the format of a line; docs/faults.md describes the guarantees.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from fledgling.errors import ConfigError, Unavailable
from fledgling.failpoints import failpoint
from fledgling.files import fsync_dir
from fledgling.journal.line import KEY_AT, Entry, Kind, decode, encode, is_kind, is_whole, key_of
from fledgling.journal.locks import REMEDY, lock_byte, require_locks
from fledgling.journal.places import Places
from fledgling.locks import lock, unlock

log = logging.getLogger(__name__)

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MARGIN_BYTES = 4 << 20


class Observer(Protocol):
    """Follows what is in a journal."""

    def observe(self, line: bytes) -> None:
        """A whole line that this journal did not append itself."""

    def restart(self) -> None:
        """All lines come again from the start: the file was compacted."""


class Journal:
    """A durable map from keys (sha256 in hex) to records that many processes share.

    Use it as a context manager. `put` and `put_many` return when the records would survive a power
    loss. `claim` gives one process the right to work on a key; the kernel takes the claim back when
    the process ends, however it ends. Keys and records stay on disk; in memory a key takes 21 to 43 bytes.

    Opening repairs what a crash left: an unfinished last line moves to `{name}.torn`, a damaged line
    to `{name}.bad`; `damaged` counts them and both are logged. What they held is asked again.
    `observers` follow every whole line that this object did not append itself.

    Raises:
        ConfigError: the folder cannot be written, or has no locks; names it and the user.
        Unavailable: no space left, the disk failed, or the file was shortened, removed or replaced while it was
            open; nothing that was announced is lost by this object.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str, *observers: Observer) -> None:
        self.folder = Path(folder)
        self.name = name
        self.path = self.folder / f"{name}.jsonl"
        self.damaged = 0
        self._observers = observers
        self._offsets = Places(self._is_at)
        self._claims: set[str] = set()
        self._end = 0
        self._gone: Unavailable | None = None
        self._exclusive_depth = 0
        self._retired: list[int] = []
        self._fd = self._lock = self._keys = -1

    def __enter__(self) -> "Journal":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._open(self.folder / f"{self.name}.lock")
            self._keys = self._open(self.folder / f"{self.name}.keys")
            self._fd = self._open(self.path)
            fsync_dir(self.folder)
        except OSError as error:
            self.close()
            if error.errno in NO_SPACE:
                raise
            raise ConfigError(
                f"the journal {self.path} cannot be written by user {os.getuid()} ({error.strerror}); "
                "nothing was asked; set `journal` to a folder that can be written"
            ) from None
        with require_locks(self.path):
            lock_byte(self._keys, 0, fcntl.F_UNLCK)
            self.refresh()
            with self._exclusive():
                pass
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back all claims and files."""
        for fd in (self._fd, self._keys, self._lock, *self._retired):
            if fd >= 0:
                os.close(fd)
        self._retired.clear()
        self._fd = self._lock = self._keys = -1
        self._claims.clear()

    def __contains__(self, key: str) -> bool:
        return self._offsets.get(key) is not None

    def __len__(self) -> int:
        return len(self._offsets)

    def get(self, key: str) -> dict[str, Any] | None:
        """The record that was put last under a key, as far as `refresh` has seen, or None."""
        offset = self._offsets.get(key)
        if offset is None:
            return None
        line = self._line(offset)
        if not is_whole(line):
            self._offsets.drop(key)
            log.warning("%s: the line at byte %d is damaged and will be asked again", self.path, offset)
            return None
        return decode(line).record

    def put(self, key: str, record: Mapping[str, object]) -> None:
        """Keep a record for good; on return it is on disk."""
        self.put_many([(key, record)])

    def put_many(self, items: Iterable[tuple[str, Mapping[str, object]]]) -> None:
        """Keep several records with one fsync; on return they are on disk."""
        self.append("result", items)
        self.sync()

    def intent(self, key: str, record: Mapping[str, object] | None = None) -> None:
        """Note, durably, that work on a key is about to start (and may be billed)."""
        self.append("intent", [(key, record or {})])
        self.sync()

    def append(
        self, kind: Kind, items: Iterable[tuple[str, Mapping[str, object]]], require: Callable[[], None] | None = None
    ) -> None:
        """Write entries in one piece; they are durable after the next `sync`.

        A killed process loses nothing that was appended, a power loss what was not synced. `require`
        is called when no other process can append; nothing is written if it raises.
        """
        lines = [(key, encode(key, kind, record)) for key, record in items]
        with self._exclusive() as start:
            if require:
                require()
            failpoint("journal.before_write")
            self._write(start, b"".join(line for _, line in lines))
            for key, line in lines:
                self._note(kind == "result", kind == "taken", key, start)
                start += len(line)
            self._end = start
        failpoint("journal.after_write")

    def sync(self) -> None:
        """Make everything appended so far survive a power loss."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise Unavailable(f"{self.path}: the disk failed ({error.strerror}); run the same command again") from None
        failpoint("journal.after_sync")

    def take_back(self, keys: Iterable[str], record: Mapping[str, object]) -> int:
        """Make results count no more, durably; returns how many there were. Their lines stay until a compaction."""
        known = [key for key in dict.fromkeys(keys) if key in self]
        self.append("taken", [(key, record) for key in known])
        self.sync()
        return len(known)

    def refresh(self) -> None:
        """See what other processes have put since."""
        if self._gone:
            raise self._gone
        if self._replaced():
            self._reopen()
        size = os.fstat(self._fd).st_size
        if size < self._end:
            raise Unavailable(
                f"{self.path} was shortened while it was open, from {self._end:,} to {size:,} bytes; nothing more was "
                "sent; put the file back from a copy, or run the same command to ask again what is missing"
            )
        if size > self._end:
            self._index()

    def claim(self, key: str) -> bool:
        """Try to become the one process that works on a key; True also means that `get` is up to date.

        Not for two threads of one process: claims are per open journal.
        """
        if key in self._claims or not lock_byte(self._keys, _place(key), fcntl.F_WRLCK):
            return False
        self._claims.add(key)
        self.refresh()
        return True

    def release(self, key: str) -> None:
        """Give a claim back."""
        self._claims.remove(key)
        lock_byte(self._keys, _place(key), fcntl.F_UNLCK)

    def require_space(self, size: int) -> None:
        """Raise Unavailable unless `size` bytes and a margin are free, before anything is paid for."""
        usage = os.statvfs(self.folder)
        free, needed = usage.f_bavail * usage.f_frsize, size + MARGIN_BYTES
        if free < needed:
            raise Unavailable(
                f"{self.folder}: {free:,} bytes are free and {needed:,} are needed to keep the replies; nothing more "
                f"was sent; free {needed - free:,} bytes and run the same command"
            )

    def entries(self) -> Iterator[Entry]:
        """All whole entries from the start, streaming."""
        with open(self.path, "rb") as stream:
            for line in stream:
                if is_whole(line):
                    yield decode(line)

    def compact(self) -> tuple[int, int]:
        """Drop superseded results, intents that were answered, and failures that cost nothing.

        Safe beside running stages (they wait). Returns the bytes before and after.
        """
        with self._exclusive() as before:
            answered: dict[str, int] = {}
            for entry in self.entries():
                if entry.kind in ("result", "failure"):
                    answered[entry.key] = answered.get(entry.key, 0) + 1
            temporary = self.folder / f".{self.name}.jsonl.tmp"
            with open(self.path, "rb") as old, open(temporary, "wb") as new:
                offset = 0
                for line in old:
                    if is_whole(line) and self._keep(line, offset, answered):
                        new.write(line)
                    offset += len(line)
                new.flush()
                os.fsync(new.fileno())
            os.replace(temporary, self.path)
            fsync_dir(self.folder)
        self.refresh()
        return before, self._end

    def _keep(self, line: bytes, offset: int, answered: dict[str, int]) -> bool:
        entry = decode(line)
        if entry.kind == "result":
            return self._offsets.get(entry.key) == offset
        if entry.kind == "failure":
            return entry.record.get("billed") != "no"
        if entry.kind == "taken":
            return True
        answered[entry.key] = answered.get(entry.key, 0) - 1
        return answered[entry.key] < 0

    @staticmethod
    def _open(path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)

    def _replaced(self) -> bool:
        try:
            return os.stat(self.path).st_ino != os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return True

    def _reopen(self) -> None:
        """Follow a compaction by another process; a file that lacks what this one held was not compacted."""
        gone = Unavailable(
            f"{self.path} was removed or replaced while it was open, and {len(self._offsets):,} finished requests with "
            "it; nothing more was sent; put the file back, or run the same command to ask them again"
        )
        before = len(self._offsets)
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            self._gone = gone
            raise gone from None
        self._retired.append(self._fd)  # a thread may be in the middle of syncing it
        self._fd = fd
        self._offsets.clear()
        self._end = 0
        for observer in self._observers:
            observer.restart()
        self._index()
        if len(self._offsets) < before:
            self._gone = gone
            raise gone

    @contextmanager
    def _exclusive(self) -> Iterator[int]:
        """Hold the one right to append; gives the file's size, after an index without gaps or torn tail."""
        lock(self._lock, self.path, REMEDY, wait=True)
        self._exclusive_depth += 1
        try:
            self.refresh()
            size = os.fstat(self._fd).st_size
            if size > self._end:
                self._set_aside(self._end, size - self._end, "torn")
                os.ftruncate(self._fd, self._end)
                os.fsync(self._fd)
                log.warning("%s: an unfinished last line was set aside in %s.torn", self.path, self.name)
            yield self._end
        finally:
            self._exclusive_depth -= 1
            if not self._exclusive_depth:
                unlock(self._lock)

    def _write(self, start: int, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            os.ftruncate(self._fd, start)
            if error.errno not in NO_SPACE:
                raise Unavailable(
                    f"{self.path}: the disk failed ({error.strerror}); run the same command again"
                ) from None
            raise Unavailable(
                f"{self.path}: no space left for {len(data):,} bytes; free at least {len(data) + MARGIN_BYTES:,} "
                "and run the same command; nothing that was kept is lost"
            ) from None

    def _index(self) -> None:
        """Read on from where the index ends to the last whole line."""
        damaged: list[tuple[int, int]] = []
        with open(self._fd, "rb", closefd=False, buffering=1 << 20) as stream:
            stream.seek(self._end)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                if is_whole(line):
                    self._note(is_kind(line, "result"), is_kind(line, "taken"), key_of(line), self._end)
                    for observer in self._observers:
                        observer.observe(line)
                elif line.strip():
                    damaged.append((self._end, len(line)))
                self._end += len(line)
        if damaged:
            indexed = self._fd
            with self._exclusive():
                if self._fd == indexed:  # else a compaction has moved the lines and dropped these
                    for offset, length in damaged:
                        self._quarantine(offset, length)

    def _note(self, result: bool, taken: bool, key: str, offset: int) -> None:
        if result:
            self._offsets.put(key, offset)
        elif taken:
            self._offsets.drop(key)

    def _quarantine(self, offset: int, length: int) -> None:
        """Move a damaged line to `{name}.bad`; spaces take its place, so that no other line moves."""
        if not os.pread(self._fd, length, offset).strip():
            return  # another process was faster
        self._set_aside(offset, length, "bad")
        # A descriptor in append mode would write at the end.
        fd = os.open(self.path, os.O_WRONLY)
        try:
            os.pwrite(fd, b" " * (length - 1), offset)
            os.fsync(fd)
        finally:
            os.close(fd)
        self.damaged += 1
        log.warning("%s: the line at byte %d is damaged; moved to %s.bad", self.path, offset, self.name)

    def _set_aside(self, offset: int, length: int, suffix: str) -> None:
        with open(self.folder / f"{self.name}.{suffix}", "ab") as stream:
            stream.write(os.pread(self._fd, length, offset).rstrip(b"\n") + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _is_at(self, offset: int, key: str) -> bool:
        """Whether the line at an offset is the key's; also where it is damaged, so that `get` says so."""
        return os.pread(self._fd, 64, offset + KEY_AT) == key.encode() or not is_whole(self._line(offset))

    def _line(self, offset: int) -> bytes:
        size = 1 << 14
        while True:
            data = os.pread(self._fd, size, offset)
            end = data.find(b"\n")
            if end >= 0 or len(data) < size:
                return data[: end + 1] if end >= 0 else data
            size *= 8


def _place(key: str) -> int:
    """The byte whose lock stands for a key."""
    return int(key[:15], 16)
