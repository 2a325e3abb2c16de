"""Looking after journals: which files of a folder are journals, and whether their lines are whole."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fledgling.errors import ConfigError
from fledgling.journal.line import START, is_whole
from fledgling.locks import lock


@dataclass(frozen=True, slots=True)
class Damage:
    """A line that is not what was written; `what` names it in words."""

    offset: int
    what: str


def journals(folder: str | os.PathLike[str]) -> list[Path]:
    """The journals of a folder; other files there, as the ledger of verdicts, are none.

    Raises:
        ConfigError: there is none.
    """
    found = [path for path in sorted(Path(folder).glob("*.jsonl")) if is_journal(path)]
    if not found:
        raise ConfigError(f"{folder}: no journal here; name its folder with --journal")
    return found


def is_journal(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a journal, whole or damaged: a file in which a line begins like one of a journal's, or that never
    got a line.

    Raises:
        ConfigError: it is a file that cannot be read.
    """
    if not Path(path).is_file():
        return False
    empty = True
    try:
        with open(path, "rb") as stream:
            for line in stream:
                if line.startswith(START):
                    return True
                empty = empty and not line.strip()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read by user {os.getuid()} ({error.strerror})") from None
    return empty and Path(path).with_suffix(".keys").exists()


def verify(path: Path) -> tuple[int, list[Damage]]:
    """How many lines a journal has, and which of them are damaged; a stage that runs beside it waits meanwhile."""
    lines, damage = 0, []
    with _still(path), open(path, "rb") as stream:
        offset = 0
        for line in stream:
            if line.strip():  # a damaged line that was set aside leaves blanks
                lines += 1
                if not line.endswith(b"\n"):
                    damage.append(Damage(offset, "unfinished last line (a process was killed while it wrote)"))
                elif not is_whole(line):
                    known = line.startswith(START)
                    damage.append(Damage(offset, "damaged line" if known else "line that no journal wrote"))
            offset += len(line)
    return lines, damage


class _still:
    """Nobody appends while the block runs."""

    def __init__(self, path: Path) -> None:
        self._lock = path.with_suffix(".lock")

    def __enter__(self) -> None:
        self._fd = os.open(self._lock, os.O_RDWR) if os.access(self._lock, os.W_OK) else -1
        if self._fd >= 0:
            lock(self._fd, self._lock, "look at a copy on another disk", wait=True)

    def __exit__(self, *exception: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def whole_lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The whole lines of a journal, streaming."""
    with open(path, "rb") as stream:
        yield from (line for line in stream if is_whole(line))
