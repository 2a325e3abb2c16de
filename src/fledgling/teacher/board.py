"""A few numbers and seats that all processes which ask one provider on this machine share.

A file of eight numbers in the user's folder of locks, mapped into memory, and byte locks on the same file: one for
changes, one that says that somebody is here, one a seat. It is the machine's, and not a run's or a journal's: two runs in
two folders ask one provider. The kernel frees the locks when a process ends, however it ends.
"""

import fcntl
import hashlib
import mmap
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from fledgling.files import digest
from fledgling.journal.locks import lock_byte, require_locks
from fledgling.locks import LOCKS, lock_folder

REMEDY: Final = f"set {LOCKS} to a folder on a disk of this machine"
CELLS: Final = 8
BOOT, NEXT_REQUEST, NEXT_TOKEN, PAUSED_UNTIL, WINDOW, CUT = range(6)  # which number is which
CHANGE_AT, PRESENCE_AT, SEATS_AT = 1024, 1025, 2048  # bytes that are locked, beyond the numbers


class Board:
    """Eight numbers, 0 at first, and seats; without a path they are this process's own.

    Times on it count from the machine's start (the monotonic clock, the same for all processes), so a board that was
    written before the machine started again is wiped.

    Raises:
        ConfigError: the file system has no locks, or the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._fd = -1
        self._depth = 0
        self._seats: set[int] = set()
        self._bytes: mmap.mmap | bytearray = bytearray(8 * CELLS)
        self.alone = True
        if path is not None:
            with require_locks(path, REMEDY):
                self._open(path)
        self._cells = memoryview(self._bytes).cast("d")

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with self.change():
            if os.fstat(self._fd).st_size < 8 * CELLS:
                os.ftruncate(self._fd, 8 * CELLS)
            self._bytes = mmap.mmap(self._fd, 8 * CELLS)
            boot = _boot()
            cells = memoryview(self._bytes).cast("d")
            if cells[BOOT] != boot:
                cells[:] = memoryview(bytes(8 * CELLS)).cast("d")
                cells[BOOT] = boot
            self.alone = lock_byte(self._fd, PRESENCE_AT, fcntl.F_WRLCK)
            lock_byte(self._fd, PRESENCE_AT, fcntl.F_RDLCK, wait=True)

    def __enter__(self) -> "Board":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cells.release()
        if isinstance(self._bytes, mmap.mmap):
            self._bytes.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __getitem__(self, cell: int) -> float:
        return self._cells[cell]

    def __setitem__(self, cell: int, value: float) -> None:
        self._cells[cell] = value

    @contextmanager
    def change(self) -> Iterator[None]:
        """Read and write several numbers while no other process does."""
        if self._fd >= 0 and not self._depth:
            lock_byte(self._fd, CHANGE_AT, fcntl.F_WRLCK, wait=True)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._fd >= 0 and not self._depth:
                lock_byte(self._fd, CHANGE_AT, fcntl.F_UNLCK)

    def sit(self, seats: int) -> int | None:
        """Take one of so many seats; None where processes hold them all."""
        for seat in range(seats):
            if seat not in self._seats and (self._fd < 0 or lock_byte(self._fd, SEATS_AT + seat, fcntl.F_WRLCK)):
                self._seats.add(seat)
                return seat
        return None

    def stand(self, seat: int) -> None:
        """Give a seat back."""
        self._seats.remove(seat)
        if self._fd >= 0:
            lock_byte(self._fd, SEATS_AT + seat, fcntl.F_UNLCK)


def board_path(*provider: str | None) -> Path:
    """Where the board of a provider lies: one a machine, as clocks and locks of machines differ.

    Raises:
        ConfigError: the user's folder of locks cannot be made.
    """
    return lock_folder() / "limits" / f"{digest([socket.gethostname(), *provider])[:24]}.board"


def _boot() -> float:
    """A number that names this start of the machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as stream:
            return float(int(hashlib.sha256(stream.read()).hexdigest()[:12], 16) + 1)
    except OSError:
        return 1.0
